"""SQL of base models. Knows no rule."""

from collections.abc import Sequence

from sqlalchemy import column, func, select, table, tuple_
from sqlalchemy.orm import Session

from app.basemodels.models import BaseModelRow
from app.jobs.models import Job
from app.jobs.state import FINAL

# Runs stand above base models, so their table is named here and not imported.
_RUNS = table("runs", column("id"), column("name"), column("base_model_id"), column("job_id"))


def one(session: Session, model_id: str) -> BaseModelRow | None:
    """Return a model that is not deleted."""
    found = session.get(BaseModelRow, model_id)
    return None if found is None or found.deleted_at else found


def lock(session: Session, model_id: str) -> BaseModelRow | None:
    """Return a model that is not deleted, locked until the transaction ends."""
    statement = select(BaseModelRow).where(
        BaseModelRow.id == model_id, BaseModelRow.deleted_at.is_(None)
    )
    return session.scalar(statement.with_for_update().execution_options(populate_existing=True))


def by_folder(session: Session, folder: str) -> BaseModelRow | None:
    """Return the model of a folder, deleted or not."""
    return session.scalar(select(BaseModelRow).where(BaseModelRow.folder == folder))


def by_hub(session: Session, hub_id: str, revision: str) -> BaseModelRow | None:
    """Return the model of a hub id at a revision, unless it is deleted or failed."""
    statement = select(BaseModelRow).where(
        BaseModelRow.hub_id == hub_id,
        BaseModelRow.revision == revision,
        BaseModelRow.status != "failed",
        BaseModelRow.deleted_at.is_(None),
    )
    return session.scalar(statement.limit(1))


def listed(
    session: Session, *, after: tuple[str, str] | None, limit: int
) -> Sequence[BaseModelRow]:
    """Return models by name, from behind (name, id)."""
    place = tuple_(func.lower(BaseModelRow.name), BaseModelRow.id)
    statement = select(BaseModelRow).where(BaseModelRow.deleted_at.is_(None))
    if after is not None:
        statement = statement.where(place > after)
    order = (func.lower(BaseModelRow.name), BaseModelRow.id)
    return session.scalars(statement.order_by(*order).limit(limit)).all()


def count(session: Session) -> int:
    """Return how many models there are."""
    statement = select(func.count()).select_from(BaseModelRow)
    return session.scalar(statement.where(BaseModelRow.deleted_at.is_(None))) or 0


def folders(session: Session) -> set[str]:
    """Return the folders of all models that are not deleted."""
    statement = select(BaseModelRow.folder).where(BaseModelRow.deleted_at.is_(None))
    return set(session.scalars(statement))


def unfinished_runs(session: Session, model_id: str) -> list[str]:
    """Return the names of runs that still need the model."""
    statement = (
        select(_RUNS.c.name)
        .join(Job, Job.id == _RUNS.c.job_id)
        .where(_RUNS.c.base_model_id == model_id, Job.status.not_in(FINAL))
    )
    return [str(name) for name in session.scalars(statement)]


def count_runs(session: Session) -> dict[str, int]:
    """Return how many runs each model has."""
    statement = select(_RUNS.c.base_model_id, func.count()).group_by(_RUNS.c.base_model_id)
    return {str(row[0]): int(row[1]) for row in session.execute(statement)}
