"""Statements on metric points. Knows no rule."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session

from app.metrics.models import MetricPoint


def upsert(session: Session, rows: list[dict[str, Any]]) -> None:
    """Store points; one that is there already gets the new value. No point may come twice."""
    statement = insert(MetricPoint)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[MetricPoint.job_id, MetricPoint.name, MetricPoint.step],
            set_={"value": statement.excluded.value, "at": statement.excluded.at},
        ),
        rows,
    )


def delete_after(session: Session, job_id: str, step: int) -> None:
    """Remove the points of steps above ``step``."""
    session.execute(
        delete(MetricPoint).where(MetricPoint.job_id == job_id, MetricPoint.step > step)
    )


def points(
    session: Session,
    job_id: str,
    *,
    names: Sequence[str] | None,
    from_step: int | None,
    to_step: int | None,
) -> Sequence[Row[str, int, float | None, datetime]]:
    """Return (name, step, value, at) by name and step."""
    columns = (MetricPoint.name, MetricPoint.step, MetricPoint.value, MetricPoint.at)
    statement = select(*columns).where(MetricPoint.job_id == job_id)
    if names is not None:
        statement = statement.where(MetricPoint.name.in_(names))
    if from_step is not None:
        statement = statement.where(MetricPoint.step >= from_step)
    if to_step is not None:
        statement = statement.where(MetricPoint.step <= to_step)
    return session.execute(statement.order_by(MetricPoint.name, MetricPoint.step)).all()


def points_of(
    session: Session, job_ids: Sequence[str], name: str
) -> list[tuple[str, int, float | None]]:
    """Return (job, step, value) of one metric by job and step."""
    columns = (MetricPoint.job_id, MetricPoint.step, MetricPoint.value)
    statement = select(*columns).where(MetricPoint.job_id.in_(job_ids), MetricPoint.name == name)
    rows = session.execute(statement.order_by(MetricPoint.job_id, MetricPoint.step))
    return [(row[0], row[1], row[2]) for row in rows]


def last_values(session: Session, job_id: str) -> dict[str, float | None]:
    """Return each metric's value at its last step."""
    statement = (
        select(MetricPoint.name, MetricPoint.value)
        .where(MetricPoint.job_id == job_id)
        .ext(distinct_on(MetricPoint.name))
        .order_by(MetricPoint.name, MetricPoint.step.desc())
    )
    return {name: value for name, value in session.execute(statement)}  # noqa: C416  # rows
