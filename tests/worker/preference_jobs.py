"""Jobs that learn preferences from few rows on a tiny model."""

from pathlib import Path
from typing import Any, NamedTuple

from app.runs.spec import TrainerJob
from tests.fixtures.preferences import judged, pairs
from tests.fixtures.tiny_model import make_model, write_rows
from tests.worker.trainer_jobs import write_job

OBJECTIVES = ("dpo", "orpo", "kto")
STEPS = 16
CONFIG: dict[str, Any] = {
    "adapter": {"rank": 4, "alpha": 8},
    "training": {
        "learning_rate": 0.01,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "max_steps": STEPS,
        "max_length": 128,
        "packing": False,
    },
    "checkpoints": {"every_steps": 4},
}


class Inputs(NamedTuple):
    """A model's folder, and rows of both kinds."""

    model: Path
    pairs: Path
    judged: Path

    def of(self, objective: str) -> Path:
        """Return the rows that an objective learns from."""
        return self.judged if objective == "kto" else self.pairs


def make_preferences(folder: Path) -> Inputs:
    """Write a tiny model, pairs of answers, and answers one by one."""
    return Inputs(
        make_model(folder / "model"),
        write_rows(folder / "pairs.jsonl", pairs(60)),
        write_rows(folder / "judged.jsonl", judged(80)),
    )


def job(
    folder: Path, inputs: Inputs, objective: str, *, dataset: Path | None = None, **training: Any
) -> Path:
    """Write a job that learns by an objective; return its folder."""
    config = {**CONFIG, "objective": objective, "training": {**CONFIG["training"], **training}}
    rows = dataset or inputs.of(objective)
    return write_job(folder, config, model=inputs.model, dataset=rows, form="preference")


def read(folder: Path) -> TrainerJob:
    """Return a folder's job."""
    return TrainerJob.model_validate_json((folder / "spec.json").read_bytes())
