"""What the queue page says of each job and device: built from the services, no HTTP.

A running job says how far it is, a waiting one why it waits, a finished one its result.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth import users
from app.auth.models import User
from app.auth.roles import Actor
from app.basemodels.models import BaseModelRow
from app.datasets.models import Dataset, DatasetSplit, DatasetVersion
from app.devices import service as devices
from app.devices.models import Device
from app.evaluations import service as evaluations
from app.evaluations.models import Evaluation
from app.jobs import policy
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.state import FINAL, LIVE, JobKind, JobStatus
from app.kit.pagination import PageRequest
from app.metrics import service as metrics
from app.runs import repository as runs
from app.runs.repository import RunRow
from web import filters, svg
from web.pages.results import Result, result_of_run

_SHOWN_LIVE, _SHOWN_WAITING, _SHOWN_FINISHED = 50, 200, 10
_CURVE_POINTS = 80


@dataclass(frozen=True)
class Subject:
    """What a job is about: where its page is, and a line of facts."""

    href: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class DeviceView:
    """A device: memory, reading, and the job that holds it."""

    device: Device
    label: str
    used: int | None
    foreign: str | None
    job: Job | None
    href: str
    free_at: datetime | None


@dataclass(frozen=True)
class RunningRow:
    """A job that a worker holds."""

    job: Job
    subject: Subject
    owner: User | None
    may_change: bool
    curve: svg.Spark | None
    losses: tuple[float | None, float | None]
    ends_at: datetime | None
    devices: tuple[str, ...]


@dataclass(frozen=True)
class WaitingRow:
    """A job that waits or is paused; ``place`` counts those that wait from 1."""

    job: Job
    subject: Subject
    owner: User | None
    may_change: bool
    place: int | None
    reason: str
    starts_at: datetime | None


@dataclass(frozen=True)
class FinishedRow:
    """A job that ended, with its result in words."""

    job: Job
    subject: Subject
    owner: User | None
    may_change: bool
    result: Result

    @property
    def is_run(self) -> bool:
        """Tell whether it is a training, which can be compared or tried again."""
        return self.job.kind == JobKind.TRAIN


@dataclass(frozen=True)
class Board:
    """The queue as it stands now."""

    template: ClassVar[str] = "queue/_board.html"
    devices: tuple[DeviceView, ...]
    running: tuple[RunningRow, ...]
    waiting: tuple[WaitingRow, ...]
    finished: tuple[FinishedRow, ...]
    total_runs: int
    is_new: bool
    may_write: bool

    @property
    def queued(self) -> int:
        """Count jobs that wait for their turn."""
        return sum(row.place is not None for row in self.waiting)

    @property
    def paused(self) -> int:
        """Count jobs that somebody holds back."""
        return len(self.waiting) - self.queued

    @property
    def free(self) -> int:
        """Count devices that nobody uses."""
        return sum(view.job is None and view.foreign is None for view in self.devices)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Name the machines."""
        return tuple(dict.fromkeys(view.device.host for view in self.devices))


def board(session: Session, *, actor: Actor) -> Board:
    """Return everything that the queue page shows."""
    live = _listed(session, LIVE, _SHOWN_LIVE)
    waits = _listed(session, (JobStatus.QUEUED, JobStatus.PAUSED), _SHOWN_WAITING)
    ended = _listed(session, FINAL, _SHOWN_FINISHED)
    view = _Looked(session, actor, [*live, *waits, *ended])
    total = runs.count(session, runs.Wanted())
    return Board(
        devices=tuple(_devices(session, view)),
        running=tuple(_running(session, job, view) for job in reversed(live)),
        waiting=tuple(_waiting(session, waits, view)),
        finished=tuple(_finished(session, ended, view)),
        total_runs=total,
        is_new=total == 0,
        may_write=actor.may_write,
    )


def _listed(session: Session, statuses: Iterable[JobStatus], limit: int) -> list[Job]:
    return jobs.list_jobs(session, statuses=statuses, page=PageRequest(limit=limit)).items


class _Looked:
    """Subjects, owners and devices of the jobs in sight, read in one go each."""

    def __init__(self, session: Session, actor: Actor, seen: Sequence[Job]) -> None:
        self.actor = actor
        self.runs = runs.many(session, _ids(seen, JobKind.TRAIN))
        self.datasets = _datasets(session, _ids(seen, JobKind.ANALYSE_DATASET))
        self.splits = _splits(session, _ids(seen, JobKind.SPLIT_DATASET))
        self.models = _models(session, _ids(seen, JobKind.FETCH_MODEL))
        self.owners = users.by_id(session, {job.owner_id for job in seen})
        self.devices = devices.present(session)
        self.holders = jobs.get_many(
            session, [device.job_id for device in self.devices if device.job_id]
        )

    def common(self, job: Job) -> dict[str, Any]:
        """Return what every row has."""
        return {
            "job": job,
            "subject": self.subject(job),
            "owner": self.owners.get(job.owner_id),
            "may_change": self.actor.owns(job.owner_id),
        }

    def subject(self, job: Job) -> Subject:
        """Return what ``job`` is about."""
        if job.subject_id in self.runs:
            return Subject(f"/runs/{job.subject_id}", run_facts(self.runs[job.subject_id]))
        if job.subject_id in self.datasets:
            dataset, version = self.datasets[job.subject_id]
            facts = ("dataset check", f"v{version.number}", filters.filesize(version.bytes))
            return Subject(f"/datasets/{dataset.id}?version={version.number}", facts)
        if job.subject_id in self.splits:
            version = self.splits[job.subject_id]
            address = f"/datasets/{version.dataset_id}/splits?version={version.number}"
            return Subject(address, ("dataset split", f"v{version.number}"))
        if job.subject_id in self.models:
            model = self.models[job.subject_id]
            return Subject("/models", ("model download", model.hub_id or model.folder))
        if job.kind == JobKind.PREFLIGHT:
            return Subject(f"/preflights/{job.subject_id}", ("a few steps of a run",))
        return Subject("/", (job.kind.replace("_", " "),))


def run_facts(row: RunRow) -> tuple[str, ...]:
    """Return a run's inputs in a few words: dataset, model, method."""
    config = row.run.spec.get("config", {})
    rank = config.get("adapter", {}).get("rank")
    method = "QLoRA" if config.get("quantization") == "nf4" else "LoRA"
    if config.get("objective") == "simulated":
        return (row.dataset.name, "simulated")
    return (
        f"{row.dataset.name} v{row.version.number}",
        row.base_model.name.rsplit("/", 1)[-1],
        f"{method} r{rank}",
    )


def _ids(seen: Sequence[Job], kind: JobKind) -> list[str]:
    return [job.subject_id for job in seen if job.kind == kind]


def _datasets(session: Session, ids: list[str]) -> dict[str, tuple[Dataset, DatasetVersion]]:
    statement = select(Dataset, DatasetVersion).join(
        DatasetVersion, DatasetVersion.dataset_id == Dataset.id
    )
    rows = session.execute(statement.where(DatasetVersion.id.in_(ids)))
    return {row[1].id: (row[0], row[1]) for row in rows}


def _splits(session: Session, ids: list[str]) -> dict[str, DatasetVersion]:
    statement = select(DatasetSplit.id, DatasetVersion).join(
        DatasetVersion, DatasetVersion.id == DatasetSplit.version_id
    )
    rows = session.execute(statement.where(DatasetSplit.id.in_(ids)))
    return {row[0]: row[1] for row in rows}


def _models(session: Session, ids: list[str]) -> dict[str, BaseModelRow]:
    rows = session.scalars(select(BaseModelRow).where(BaseModelRow.id.in_(ids)))
    return {row.id: row for row in rows}


def device_label(device: Device) -> str:
    """Return how people call a device: GPU 0, or CPU."""
    return "CPU" if device.kind == "cpu" else f"GPU {device.index}"


def _devices(session: Session, view: _Looked) -> Iterable[DeviceView]:
    del session
    for device in view.devices:
        held = view.holders.get(device.job_id or "") if not devices.is_free(device) else None
        yield DeviceView(
            device=device,
            label=device_label(device),
            used=device.reading.get("memory_used"),
            foreign=None if held else _foreign(device.reading.get("foreign")),
            job=held,
            href=view.subject(held).href if held else "",
            free_at=jobs.predicted_finish(held) if held else None,
        )


def _foreign(processes: object) -> str | None:
    """Name the biggest process that is not ours, if there is any."""
    if not isinstance(processes, list) or not processes:
        return None
    first: Mapping[str, Any] = max(processes, key=lambda one: one.get("memory") or 0)
    parts = (first.get("name"), f"pid {first['pid']}" if "pid" in first else None)
    user = f"user {first['user']}" if first.get("user") else None
    return ", ".join(str(part) for part in (*parts, user) if part)


def _running(session: Session, job: Job, view: _Looked) -> RunningRow:
    curves: dict[str, Any] = {}
    if job.kind == JobKind.TRAIN:
        names = ("train/loss", "eval/loss")
        curves = metrics.series(session, job_id=job.id, names=names, points=_CURVE_POINTS)["series"]
    train, validation = (_points(curves.get(name)) for name in ("train/loss", "eval/loss"))
    smooth = list(svg.smoothed(train))
    return RunningRow(
        **view.common(job),
        curve=svg.spark(smooth, validation, last_x=job.total_steps),
        losses=(train[-1][1] if train else None, validation[-1][1] if validation else None),
        ends_at=jobs.predicted_finish(job),
        devices=tuple(device_label(d) for d in view.devices if d.job_id == job.id),
    )


def _points(curve: Mapping[str, Any] | None) -> list[tuple[float, float]]:
    if curve is None:
        return []
    pairs = zip(curve["step"], curve["value"], strict=True)
    return [(step, value) for step, value in pairs if value is not None]


def _waiting(session: Session, waits: Sequence[Job], view: _Looked) -> Iterable[WaitingRow]:
    by_id = {job.id: job for job in waits}
    queued = [jobs.as_queued(job) for job in waits if job.status == JobStatus.QUEUED]
    ordered = [by_id[one.id] for one in policy.order(queued)]
    paused = [job for job in waits if job.status == JobStatus.PAUSED]
    for place, job in enumerate([*ordered, *paused], start=1):
        yield WaitingRow(
            **view.common(job),
            place=place if job.status == JobStatus.QUEUED else None,
            reason=jobs.waiting_reason(session, job) or "Starts in a moment.",
            starts_at=jobs.predicted_start(session, job),
        )


def _finished(session: Session, ended: Sequence[Job], view: _Looked) -> Iterable[FinishedRow]:
    reports: dict[str, Evaluation] = {
        one.run_id: one for one in evaluations.of_runs(session, run_ids=list(view.runs))
    }
    for job in sorted(ended, key=lambda one: one.finished_at or one.created_at, reverse=True):
        yield FinishedRow(**view.common(job), result=_result(job, view, reports))


def _result(job: Job, view: _Looked, reports: Mapping[str, Evaluation]) -> Result:
    if job.subject_id in view.runs and job.status == JobStatus.SUCCEEDED:
        report = reports.get(job.subject_id)
        row = view.runs[job.subject_id]
        return result_of_run(row.run.summary, report.report if report else None)
    if job.status == JobStatus.FAILED:
        failure = job.failure or {}
        at = f" at step {filters.count(job.step)}" if job.step else ""
        title = f"{failure.get('title', 'Failed')}{at}"
        return Result(title, failure.get("next_step", ""), is_bad=True)
    if job.status == JobStatus.CANCELLED:
        at = f"at step {filters.count(job.step)}" if job.step else "before it started"
        return Result(f"Stopped {at}", "")
    if job.subject_id in view.datasets:
        _, version = view.datasets[job.subject_id]
        errors, warnings = version.errors or 0, version.warnings or 0
        found = f"{filters.plural(errors, 'error')}, {filters.plural(warnings, 'warning')}"
        return Result(filters.plural(version.examples, "example"), found)
    return Result("Done", "")
