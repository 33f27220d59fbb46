"""Table of runs: a frozen spec and what came of it. The state of a run is its job's."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import utc_now
from app.kit.db import Base


class Run(Base):
    """One training.

    ``spec`` is ``RunSpec`` as JSON; ``reasons`` says why a preset chose a value (dotted field →
    sentence); ``summary`` holds final metrics by name.
    """

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    name: Mapped[str]
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    dataset_version_id: Mapped[str] = mapped_column(ForeignKey("dataset_versions.id"))
    base_model_id: Mapped[str] = mapped_column(ForeignKey("base_models.id"), index=True)
    spec: Mapped[dict[str, Any]]
    reasons: Mapped[dict[str, Any]]
    summary: Mapped[dict[str, Any]]
    note: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
