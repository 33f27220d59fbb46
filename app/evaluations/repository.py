"""SQL of evaluations and their items. Knows no rule."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, column, delete, func, insert, select, table, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.evaluations.models import Evaluation, EvaluationItem
from app.evaluations.scoring import VERDICTS

# Runs stand above evaluations, so their table is named here and not imported.
_RUNS = table("runs", column("id"), column("job_id"), column("summary", JSONB))


def run_of_job(session: Session, job_id: str) -> str | None:
    """Return the id of the run whose job this is."""
    return session.scalar(select(_RUNS.c.id).where(_RUNS.c.job_id == job_id))


def write_summary(session: Session, run_id: str, summary: dict[str, Any]) -> None:
    """Set the final figures of a run."""
    session.execute(update(_RUNS).where(_RUNS.c.id == run_id).values(summary=summary))


def delete_suite(session: Session, run_id: str, suite: str) -> None:
    """Forget what an earlier attempt measured."""
    statement = delete(Evaluation).where(Evaluation.run_id == run_id, Evaluation.suite == suite)
    session.execute(statement)


def insert_items(session: Session, rows: list[dict[str, Any]]) -> None:
    """Store items in one statement."""
    session.execute(insert(EvaluationItem), rows)


def of_runs(session: Session, run_ids: Iterable[str]) -> Sequence[Evaluation]:
    """Return the evaluations of these runs, by run and suite."""
    statement = select(Evaluation).where(Evaluation.run_id.in_(list(run_ids)))
    return session.scalars(statement.order_by(Evaluation.run_id, Evaluation.suite)).all()


def items(
    session: Session, evaluation_id: str, *, which: str | None, after: int | None, limit: int
) -> Sequence[EvaluationItem]:
    """Return items in order, from behind ``after``."""
    statement = select(EvaluationItem).where(*_chosen(evaluation_id, which))
    if after is not None:
        statement = statement.where(EvaluationItem.index > after)
    return session.scalars(statement.order_by(EvaluationItem.index).limit(limit)).all()


def count_items(session: Session, evaluation_id: str, *, which: str | None) -> int:
    """Return how many items there are."""
    statement = select(func.count()).select_from(EvaluationItem)
    return session.scalar(statement.where(*_chosen(evaluation_id, which))) or 0


def _chosen(evaluation_id: str, which: str | None) -> list[ColumnElement[bool]]:
    base, tuned = (
        func.coalesce(*(scores[name].as_float() for name in VERDICTS))
        for scores in (EvaluationItem.base_scores, EvaluationItem.tuned_scores)
    )
    conditions = {
        "gained": [base < tuned],
        "lost": [base > tuned],
        "wrong": [tuned < 1],
    }
    return [EvaluationItem.evaluation_id == evaluation_id, *conditions.get(which or "", [])]
