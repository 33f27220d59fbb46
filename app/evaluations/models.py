"""Tables of evaluations and their items."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import utc_now
from app.kit.db import Base


class Evaluation(Base):
    """A suite's result on a run's tuned model beside its base model.

    ``report`` is what the trainer wrote: {"suite", "n", "step", "metrics": {name: {"base": {value,
    low, high}, "tuned": {…}, "difference": {value, low, high}, "n", "better": higher|lower}}}.
    """

    __tablename__ = "evaluations"
    __table_args__ = (Index("ix_evaluations_run_suite", "run_id", "suite", unique=True),)

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    suite: Mapped[str]
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class EvaluationItem(Base):
    """One held-out example: prompt, expected answer, both models' answers and their scores."""

    __tablename__ = "evaluation_items"

    evaluation_id: Mapped[str] = mapped_column(
        ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[int]
    prompt: Mapped[list[Any]]
    expected: Mapped[str]
    base_output: Mapped[str]
    tuned_output: Mapped[str]
    base_scores: Mapped[dict[str, Any]]
    tuned_scores: Mapped[dict[str, Any]]
