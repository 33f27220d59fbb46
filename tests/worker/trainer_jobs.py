"""Builds job folders and runs the trainer on them, as the shepherd does but with nothing around."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from app.runs.spec import TrainerJob
from tests.fixtures.tiny_model import make_model, rows, write_rows
from worker.trainer.emitter import Emitter
from worker.trainer.stopping import Stop


class Inputs(NamedTuple):
    """What a job is given: a model's folder and a dataset's file."""

    model: Path
    dataset: Path


def make_inputs(folder: Path, *, count: int) -> Inputs:
    """Write a tiny model and so many rows."""
    return Inputs(make_model(folder / "model"), write_rows(folder / "rows.jsonl", rows(count)))


def write_job(
    folder: Path,
    config: Mapping[str, Any],
    *,
    model: Path | str = "",
    dataset: Path | str = "",
    fresh: bool = False,
    form: str = "messages",
) -> Path:
    """Write spec.json into a new folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run = {
        "name": "a run",
        "dataset": {"id": "ds_1", "version": 1},
        "base_model": "mdl_tiny",
        "preset": "quick",
        "config": config,
    }
    job = {
        "run": run,
        "dataset_file": str(dataset),
        "base_model_folder": str(model),
        "fresh": fresh,
        "format": form,
    }
    TrainerJob.model_validate(job)
    (folder / "spec.json").write_text(json.dumps(job))
    return folder


def start(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start the trainer on a folder; its output goes to log.txt."""
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "worker.trainer", "train", str(folder)],
            stdout=log,
            stderr=log,
            env=one_thread(**environment),
        )


def one_thread(**more: str) -> dict[str, str]:
    """Return the environment of a child that computes on one thread."""
    inherited = os.environ.copy()  # noqa: TID251  # for a child
    return {**inherited, "TUNEBOX_TRAINER_THREADS": "1", "OMP_NUM_THREADS": "1", **more}


def run(folder: Path, **environment: str) -> int:
    """Run the trainer to its end; return its exit code."""
    return start(folder, **environment).wait(timeout=120)


def events(folder: Path, type_: str | None = None) -> list[dict[str, Any]]:
    """Return the whole lines of the folder's events, of one type or all."""
    path = folder / "events.jsonl"
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    found = [json.loads(line) for line in lines]
    return [event for event in found if type_ in (None, event["type"])]


def series(folder: Path, name: str) -> dict[int, Any]:
    """Return a metric by step as the server keeps it: the last told value of each step."""
    return {
        event["step"]: event["values"][name]
        for event in events(folder, "metrics")
        if name in event["values"]
    }


class StopAfter(Stop):
    """Asks for a stop, as SIGTERM would, once a step was told."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder)
        self.step = step

    @property
    def asked(self) -> bool:
        return any(event["step"] == self.step for event in events(self._file.parent, "metrics"))

    @asked.setter
    def asked(self, _value: bool) -> None: ...


def train_here(folder: Path, stop: Stop | None = None) -> None:
    """Train a folder's job in this process, by the recipe of its objective."""
    import torch

    torch.set_num_threads(1)
    job = TrainerJob.model_validate_json((folder / "spec.json").read_bytes())
    recipe = importlib.import_module(f"worker.trainer.recipes.{job.run.config.objective.value}")
    emitter = Emitter(folder)
    try:
        recipe.train(job, folder=folder, emitter=emitter, stop=stop or Stop(folder))
    finally:
        emitter.close()
