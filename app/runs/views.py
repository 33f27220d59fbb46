"""A run as pages and the API show it: with its job, its inputs, its checkpoints and its log.

Reads only. Knows no HTTP.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy.orm import Session

from app.auth.models import User
from app.basemodels.models import BaseModelRow
from app.datasets.models import Dataset, DatasetVersion
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.state import JobStatus
from app.kit.storage import job_folder
from app.runs import engines, repository
from app.runs.models import Run
from app.runs.objectives import KINDS
from app.runs.repository import RunRow
from app.runs.spec import Objective, RunSpec
from app.settings import Settings

LOG_BYTES = 2 * 2**20  # of a long log's end that are looked at


@dataclass(frozen=True)
class RunView:
    """A run and all that is said of it on a page."""

    run: Run
    job: Job
    owner: User
    dataset: Dataset
    version: DatasetVersion
    base_model: BaseModelRow
    waiting_reason: str | None
    predicted_start: datetime | None
    predicted_finish: datetime | None

    @cached_property
    def spec(self) -> RunSpec:
        """The frozen description that is trained."""
        return RunSpec.model_validate(self.run.spec)

    @property
    def method(self) -> str:
        """What is trained, and the rank of an adapter: QLoRA r16, DPO with QLoRA r16."""
        config = self.spec.config
        name = engines.method_name(config)
        name = name if config.method == "full" else f"{name} r{config.adapter.rank}"
        if config.objective in (Objective.SFT, Objective.SIMULATED):
            return name
        return f"{KINDS[config.objective].short} with {name}"

    @property
    def status(self) -> JobStatus:
        """Where the run stands."""
        return JobStatus(self.job.status)

    @property
    def failure(self) -> dict[str, Any] | None:
        """Why it failed, if it did: title, explanation, evidence, next_step, changes."""
        return self.job.failure


@dataclass(frozen=True)
class Checkpoint:
    """A state of the run that it can go on from; ``kept`` tells whether it is still there."""

    step: int
    bytes: int | None
    eval_loss: float | None
    best: bool
    kept: bool
    at: datetime


@dataclass(frozen=True)
class LogTail:
    """The last lines of a log; ``whole`` tells whether that is all of it."""

    lines: list[str]
    whole: bool


def view_of(session: Session, row: RunRow) -> RunView:
    """Return the view of a run."""
    return RunView(
        run=row.run,
        job=row.job,
        owner=row.owner,
        dataset=row.dataset,
        version=row.version,
        base_model=row.base_model,
        waiting_reason=jobs.waiting_reason(session, row.job),
        predicted_start=jobs.predicted_start(session, row.job),
        predicted_finish=jobs.predicted_finish(row.job),
    )


def checkpoints(session: Session, settings: Settings, *, run: Run) -> list[Checkpoint]:
    """Return the checkpoints of a run, newest first.

    Which are still there is looked up where the files lie on this machine; otherwise the rule
    tells: the last ones that the spec keeps, and the best.
    """
    events = {
        int(event.step or 0): event for event in repository.checkpoint_events(session, run.job_id)
    }
    steps = sorted(events, reverse=True)
    best = max((step for step in steps if events[step].values.get("best")), default=None)
    folder = job_folder(settings, run.job_id) / "checkpoints"
    keep = RunSpec.model_validate(run.spec).config.checkpoints.keep
    by_rule = {*steps[:keep], best}
    return [
        Checkpoint(
            step=step,
            bytes=events[step].values.get("bytes"),
            eval_loss=events[step].values.get("eval_loss"),
            best=step == best,
            kept=(folder / f"step-{step}").is_dir() if folder.is_dir() else step in by_rule,
            at=events[step].at,
        )
        for step in steps
    ]


def log_tail(session: Session, settings: Settings, *, run: Run, lines: int) -> LogTail:
    """Return the end of the trainer's log, or what was told of it if the file is elsewhere."""
    file = job_folder(settings, run.job_id) / "log.txt"
    if not file.is_file():
        events = repository.log_events(session, run.job_id, lines)
        return LogTail([str(event.values.get("text", "")) for event in events], whole=False)
    with file.open("rb") as log:
        size = log.seek(0, 2)
        log.seek(max(0, size - LOG_BYTES))
        text = log.read().decode("utf-8", "replace")
    found = text.splitlines()
    if size > LOG_BYTES:
        found = found[1:]
    return LogTail(found[-lines:], whole=size <= LOG_BYTES and len(found) <= lines)
