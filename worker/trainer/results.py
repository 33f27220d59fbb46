"""What a run leaves: its adapter, ``report.json`` and ``items.jsonl``. The same for every recipe.

Knows what was measured and where it is written, not how a step is made.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from app.jobs.events import EventType
from app.runs.spec import TrainerJob
from worker.trainer import checkpoints
from worker.trainer.checkpoints import State
from worker.trainer.data import Tokens
from worker.trainer.emitter import Emitter
from worker.trainer.files import write_whole
from worker.trainer.loading import Loaded
from worker.trainer.preparing import HeldOut
from worker.trainer.recipes import heldout
from worker.trainer.stopping import Leave, Stop, Stopped


def measure(
    loaded: Loaded,
    held_out: HeldOut,
    encoded: Sequence[Tokens],
    *,
    worse: Sequence[Tokens] = (),
    folder: Path,
    state: State,
    emitter: Emitter,
    stop: Stop,
) -> None:
    """Evaluate base against tuned, by their losses and answers, and write the report.

    ``encoded`` are the tokens of the rows held out, ``worse`` those of worse answers to them.
    """
    report_of(
        lambda: heldout.evaluate(
            loaded, held_out, encoded, worse=worse, emitter=emitter, stop=stop, step=state.step
        ),
        folder=folder,
        state=state,
        emitter=emitter,
    )


def report_of(
    evaluate: Callable[[], tuple[dict[str, Any], list[dict[str, Any]]]],
    *,
    folder: Path,
    state: State,
    emitter: Emitter,
) -> None:
    """Write the report of what ``evaluate`` measures; stopped and kept, it has no scores."""
    emitter.phase("evaluating", step=state.step)
    try:
        metrics, items = evaluate()
    except Stopped as stopped:
        if stopped.mode is Leave.SAVE:
            write_report(folder, metrics={}, items=[], state=state, emitter=emitter)
        raise
    write_report(folder, metrics=metrics, items=items, state=state, emitter=emitter)


def save_result(
    job: TrainerJob, *, folder: Path, loaded: Loaded, state: State, emitter: Emitter
) -> None:
    """Write what was trained as the run's result."""
    emitter.phase("saving", step=state.step)
    checkpoints.save_adapter(folder / "adapter", loaded, base_model=job.run.base_model)


def finish(
    job: TrainerJob, *, folder: Path, loaded: Loaded, state: State, emitter: Emitter
) -> None:
    """Keep the work of a run that was stopped early: the adapter, and a report without scores."""
    save_result(job, folder=folder, loaded=loaded, state=state, emitter=emitter)
    write_report(folder, metrics={}, items=[], state=state, emitter=emitter)


def write_report(
    folder: Path,
    *,
    metrics: dict[str, Any],
    items: Sequence[dict[str, Any]],
    state: State,
    emitter: Emitter,
) -> None:
    """Write report.json and items.jsonl, and tell the report."""
    summary: dict[str, Any] = {
        "train/loss": state.loss,
        "eval/loss": state.eval_loss,
        "best_eval_loss": state.best_loss,
        "best_step": state.best_step,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
    }
    if torch.cuda.is_available():
        summary["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    report = {
        "suite": "heldout",
        "n": len(items),
        "step": state.step,
        "metrics": metrics,
        "summary": summary,
    }
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    write_whole(folder / "items.jsonl", lines.encode())
    write_whole(folder / "report.json", json.dumps(report, indent=1).encode())
    emitter.emit(EventType.EVALUATION, {"evaluation": report}, step=state.step)
