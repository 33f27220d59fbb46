"""SQL of runs. Knows no rule."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.orm import Session

from app.auth.models import User
from app.basemodels.models import BaseModelRow
from app.datasets.models import Dataset, DatasetVersion
from app.jobs.events import EventType
from app.jobs.models import Job, JobEventRow
from app.jobs.state import JobStatus
from app.runs.models import Run

SORTS: dict[str, ColumnElement[Any]] = {
    "created_at": Run.id.expression,  # ids grow with time
    "name": func.lower(Run.name),
    "eval_loss": func.coalesce(Run.summary["eval/loss"].as_float(), 1e300),
}


@dataclass(frozen=True)
class Wanted:
    """Which runs a list shows."""

    statuses: tuple[JobStatus, ...] = ()
    owner_id: str | None = None
    dataset_id: str | None = None
    base_model_id: str | None = None
    q: str | None = None


@dataclass(frozen=True)
class RunRow:
    """A run with what is shown beside it."""

    run: Run
    job: Job
    owner: User
    dataset: Dataset
    version: DatasetVersion
    base_model: BaseModelRow


Joined = Select[Run, Job, User, Dataset, DatasetVersion, BaseModelRow]


def _joined() -> Joined:
    return (
        select(Run, Job, User, Dataset, DatasetVersion, BaseModelRow)
        .join(Job, Job.id == Run.job_id)
        .join(User, User.id == Run.owner_id)
        .join(Dataset, Dataset.id == Run.dataset_id)
        .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
        .join(BaseModelRow, BaseModelRow.id == Run.base_model_id)
    )


def one(session: Session, run_id: str) -> RunRow | None:
    """Return a run with what belongs to it."""
    found = session.execute(_joined().where(Run.id == run_id)).one_or_none()
    return None if found is None else RunRow(*found)


def many(session: Session, run_ids: Iterable[str]) -> dict[str, RunRow]:
    """Return runs by id; unknown ids are left out."""
    rows = session.execute(_joined().where(Run.id.in_(list(run_ids))))
    return {row[0].id: RunRow(*row) for row in rows}


def lock(session: Session, run_id: str) -> Run | None:
    """Return a run, locked until the transaction ends."""
    statement = select(Run).where(Run.id == run_id).with_for_update()
    return session.scalar(statement.execution_options(populate_existing=True))


def by_job(session: Session, job_id: str) -> Run | None:
    """Return the run whose job this is."""
    return session.scalar(select(Run).where(Run.job_id == job_id))


def listed(
    session: Session,
    wanted: Wanted,
    *,
    sort: str,
    descending: bool,
    after: tuple[Any, str] | None,
    limit: int,
) -> list[tuple[RunRow, Any]]:
    """Return runs with their place in the order, from behind ``after``."""
    key = SORTS[sort]
    statement = _joined().add_columns(key.label("place")).where(*_conditions(wanted))
    place = tuple_(key, Run.id)
    if after is not None:
        statement = statement.where(place < after if descending else place > after)
    order = (key.desc(), Run.id.desc()) if descending else (key, Run.id)
    rows = session.execute(statement.order_by(*order).limit(limit))
    return [(RunRow(*row[:6]), row[6]) for row in rows]


def count(session: Session, wanted: Wanted) -> int:
    """Return how many runs there are."""
    statement = select(func.count()).select_from(Run).join(Job, Job.id == Run.job_id)
    return session.scalar(statement.where(*_conditions(wanted))) or 0


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.statuses:
        found.append(Job.status.in_(wanted.statuses))
    if wanted.owner_id:
        found.append(Run.owner_id == wanted.owner_id)
    if wanted.dataset_id:
        found.append(Run.dataset_id == wanted.dataset_id)
    if wanted.base_model_id:
        found.append(Run.base_model_id == wanted.base_model_id)
    if wanted.q:
        found.append(
            Run.name.icontains(wanted.q, autoescape=True)
            | Run.note.icontains(wanted.q, autoescape=True)
        )
    return found


def checkpoint_events(session: Session, job_id: str) -> Sequence[JobEventRow]:
    """Return the checkpoints that were told of, oldest first."""
    statement = select(JobEventRow).where(
        JobEventRow.job_id == job_id, JobEventRow.type == EventType.CHECKPOINT
    )
    return session.scalars(statement.order_by(JobEventRow.seq)).all()


def log_events(session: Session, job_id: str, limit: int) -> list[JobEventRow]:
    """Return the last log lines that were told of, oldest first."""
    statement = select(JobEventRow).where(
        JobEventRow.job_id == job_id, JobEventRow.type == EventType.LOG
    )
    rows = session.scalars(statement.order_by(JobEventRow.seq.desc()).limit(limit)).all()
    return list(reversed(rows))


def finished_alike(session: Session, base_model_id: str, device_kind: str) -> list[tuple[Run, Job]]:
    """Return the last runs of a model on such a device that ended well."""
    statement = (
        select(Run, Job)
        .join(Job, Job.id == Run.job_id)
        .where(
            Run.base_model_id == base_model_id,
            Job.status == JobStatus.SUCCEEDED,
            Job.device_kind == device_kind,
        )
        .order_by(Run.id.desc())
        .limit(20)
    )
    return [(row[0], row[1]) for row in session.execute(statement)]
