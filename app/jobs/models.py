"""Tables of jobs and their events. Knows no rule: see ``service`` and ``policy``."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import utc_now
from app.kit.db import Base


class Job(Base):
    """Anything queued. ``subject_id`` is the run, dataset version or base model it is about.

    ``status`` is written by ``jobs.service.transition`` only. ``last_seq`` numbers its events
    without holes; ``recorded_seq`` is the last line of the trainer's own file that is stored.
    A worker that holds the job extends ``lease_until`` where ``attempt`` is still its own.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "ix_jobs_queued",
            "lane",
            "priority",
            "queued_at",
            postgresql_where=text("status = 'queued'"),
        ),
        Index("ix_jobs_status", "status"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    kind: Mapped[str]
    lane: Mapped[str]
    title: Mapped[str]
    subject_id: Mapped[str] = mapped_column(index=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    priority: Mapped[int] = mapped_column(default=0)
    device_kind: Mapped[str | None]
    devices_needed: Mapped[int] = mapped_column(default=0)
    status: Mapped[str] = mapped_column(default="queued")
    attempt: Mapped[int] = mapped_column(default=0)
    lost_count: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    stop_mode: Mapped[str | None]
    # The next attempt starts from nothing: checkpoints of earlier ones are removed first.
    fresh: Mapped[bool] = mapped_column(default=False)
    last_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    recorded_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    phase: Mapped[str | None]
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int | None]
    progress: Mapped[float] = mapped_column(default=0.0)
    # While it runs: seconds of work left by the recent pace; None while unknown.
    seconds_left: Mapped[float | None]
    failure: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    queued_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class JobEventRow(Base):
    """One stored event of a job; ``seq`` counts from 1 without holes, across attempts."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    type: Mapped[str]
    at: Mapped[datetime]
    attempt: Mapped[int]
    step: Mapped[int | None]
    values: Mapped[dict[str, Any]]
