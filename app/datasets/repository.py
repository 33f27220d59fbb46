"""SQL of datasets, versions and problems. Knows no rule."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, column, delete, func, select, table, tuple_
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from app.datasets.models import Dataset, DatasetSplit, DatasetVersion, ProblemRow, TokenReport
from app.jobs.models import Job
from app.jobs.state import FINAL

# Runs stand above datasets, so their table is named here and not imported.
_RUNS = table(
    "runs",
    column("id"),
    column("name"),
    column("dataset_id"),
    column("dataset_version_id"),
    column("spec", JSONB),
)


def dataset(session: Session, dataset_id: str) -> Dataset | None:
    """Return a dataset that is not deleted."""
    found = session.get(Dataset, dataset_id)
    return None if found is None or found.deleted_at else found


def lock(session: Session, dataset_id: str) -> Dataset | None:
    """Return a dataset and keep others from adding versions to it meanwhile."""
    statement = select(Dataset).where(Dataset.id == dataset_id, Dataset.deleted_at.is_(None))
    return session.scalar(statement.with_for_update())


def _listed(q: str | None) -> ColumnElement[bool]:
    alive = Dataset.deleted_at.is_(None)
    return and_(alive, Dataset.name.icontains(q, autoescape=True)) if q else alive


def datasets(
    session: Session, *, q: str | None, limit: int, before: tuple[datetime, str] | None
) -> Sequence[Dataset]:
    """Return datasets, newest first, from behind (created_at, id)."""
    statement = select(Dataset).where(_listed(q))
    if before is not None:
        statement = statement.where(tuple_(Dataset.created_at, Dataset.id) < before)
    order = (Dataset.created_at.desc(), Dataset.id.desc())
    return session.scalars(statement.order_by(*order).limit(limit)).all()


def count_datasets(session: Session, *, q: str | None) -> int:
    """Return how many datasets there are."""
    return session.scalar(select(func.count()).select_from(Dataset).where(_listed(q))) or 0


def versions(session: Session, dataset_ids: Iterable[str]) -> Sequence[DatasetVersion]:
    """Return all versions of these datasets, newest first."""
    statement = select(DatasetVersion).where(DatasetVersion.dataset_id.in_(list(dataset_ids)))
    return session.scalars(statement.order_by(DatasetVersion.number.desc())).all()


def version(session: Session, dataset_id: str, number: int | None) -> DatasetVersion | None:
    """Return one version by number, or the latest."""
    statement = select(DatasetVersion).where(DatasetVersion.dataset_id == dataset_id)
    if number is not None:
        statement = statement.where(DatasetVersion.number == number)
    return session.scalar(statement.order_by(DatasetVersion.number.desc()).limit(1))


def version_by_content(session: Session, dataset_id: str, sha256: str) -> DatasetVersion | None:
    """Return the version with this content, if the dataset has it."""
    statement = select(DatasetVersion).where(
        DatasetVersion.dataset_id == dataset_id, DatasetVersion.sha256 == sha256
    )
    return session.scalar(statement)


def runs_with(session: Session, dataset_id: str) -> list[tuple[str, str]]:
    """Return (id, name) of the runs that use a dataset."""
    statement = _ids_and_names(_RUNS.c.dataset_id == dataset_id)
    return [(str(row[0]), str(row[1])) for row in session.execute(statement)]


def runs_with_version(session: Session, version_id: str) -> list[tuple[str, str]]:
    """Return (id, name) of the runs that use one version."""
    statement = _ids_and_names(_RUNS.c.dataset_version_id == version_id)
    return [(str(row[0]), str(row[1])) for row in session.execute(statement)]


def runs_with_split(session: Session, split_id: str) -> list[tuple[str, str]]:
    """Return (id, name) of the runs that use one split."""
    named = _RUNS.c.spec["config"]["data"]["split"].astext == split_id
    return [(str(row[0]), str(row[1])) for row in session.execute(_ids_and_names(named))]


def _ids_and_names(condition: ColumnElement[bool]) -> Select[Any, Any]:
    return select(_RUNS.c.id, _RUNS.c.name).where(condition)


def splits(session: Session, version_ids: Iterable[str]) -> Sequence[DatasetSplit]:
    """Return all splits of these versions, newest first."""
    statement = select(DatasetSplit).where(DatasetSplit.version_id.in_(list(version_ids)))
    return session.scalars(statement.order_by(DatasetSplit.id.desc())).all()


def measuring_with(session: Session, dataset_id: str) -> list[tuple[str, str, int]]:
    """Return (id, name, version) of other datasets with a split that measures with this one."""
    measured = DatasetSplit.parameters["file"]["id"].astext == dataset_id
    statement = (
        select(Dataset.id, Dataset.name, DatasetVersion.number)
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .join(DatasetSplit, DatasetSplit.version_id == DatasetVersion.id)
        .where(measured, Dataset.deleted_at.is_(None), Dataset.id != dataset_id)
        .distinct()
        .order_by(Dataset.name, DatasetVersion.number)
    )
    return [(row[0], row[1], row[2]) for row in session.execute(statement)]


def unfinished_jobs(session: Session, subject_ids: Sequence[str]) -> dict[str, Job]:
    """Return the jobs about these that are queued or at work, by what they are about."""
    if not subject_ids:
        return {}
    statement = select(Job).where(Job.subject_id.in_(subject_ids), Job.status.not_in(FINAL))
    return {job.subject_id: job for job in session.scalars(statement)}


def count_runs(session: Session, dataset_ids: Iterable[str]) -> dict[str, int]:
    """Return how many runs use each dataset."""
    statement = (
        select(_RUNS.c.dataset_id, func.count())
        .where(_RUNS.c.dataset_id.in_(list(dataset_ids)))
        .group_by(_RUNS.c.dataset_id)
    )
    return {str(row[0]): int(row[1]) for row in session.execute(statement)}


def _problem_filter(
    version_id: str, code: str | None, severity: str | None
) -> list[ColumnElement[bool]]:
    conditions = [ProblemRow.version_id == version_id]
    if code is not None:
        conditions.append(ProblemRow.code == code)
    if severity is not None:
        conditions.append(ProblemRow.severity == severity)
    return conditions


def problems(  # two filters and a place
    session: Session,
    *,
    version_id: str,
    code: str | None,
    severity: str | None,
    limit: int,
    after: tuple[int, int] | None,
) -> Sequence[ProblemRow]:
    """Return stored problems by line, from behind (line, place)."""
    statement = select(ProblemRow).where(*_problem_filter(version_id, code, severity))
    if after is not None:
        statement = statement.where(tuple_(ProblemRow.line, ProblemRow.place) > after)
    return session.scalars(statement.order_by(ProblemRow.line, ProblemRow.place).limit(limit)).all()


def lines_with(
    session: Session, version_id: str, *, code: str, first: int, limit: int
) -> list[int]:
    """Return the lines with a stored problem of ``code`` from line ``first`` on, each once."""
    statement = (
        select(ProblemRow.line)
        .where(*_problem_filter(version_id, code, None), ProblemRow.line >= first)
        .distinct()
        .order_by(ProblemRow.line)
        .limit(limit)
    )
    return list(session.scalars(statement))


def codes_of(session: Session, version_id: str, lines: Sequence[int]) -> dict[int, list[str]]:
    """Return the codes of the stored problems of some lines, each code once."""
    statement = (
        select(ProblemRow.line, ProblemRow.code)
        .where(ProblemRow.version_id == version_id, ProblemRow.line.in_(lines))
        .order_by(ProblemRow.line, ProblemRow.place)
    )
    found: dict[int, list[str]] = {}
    for line, code in session.execute(statement):
        if code not in found.setdefault(line, []):
            found[line].append(code)
    return found


def delete_problems(session: Session, version_id: str) -> None:
    """Forget what an earlier, unfinished check had stored."""
    session.execute(delete(ProblemRow).where(ProblemRow.version_id == version_id))


def delete_token_reports(session: Session, version_id: str) -> None:
    """Forget what a version cost in tokens."""
    session.execute(delete(TokenReport).where(TokenReport.version_id == version_id))


def delete_splits(session: Session, version_id: str) -> list[str]:
    """Forget a version's splits; return the storage keys of their rows' sides."""
    splits = session.scalars(select(DatasetSplit).where(DatasetSplit.version_id == version_id))
    keys = [split.key for split in splits]
    session.execute(delete(DatasetSplit).where(DatasetSplit.version_id == version_id))
    return keys


def insert_problems(session: Session, rows: list[dict[str, Any]]) -> None:
    """Store problems in one statement; what a lost worker's check still wrote is the same."""
    if rows:
        session.execute(insert(ProblemRow).on_conflict_do_nothing(), rows)
