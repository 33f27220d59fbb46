"""Table of preflights: what was tried of a run before it started, and what was measured."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import utc_now
from app.kit.db import Base


class Preflight(Base):
    """A try of ``spec`` (a ``RunSpec`` as JSON) on a device; ``result`` once it is done.

    ``result`` is what ``worker.trainer.preflight`` wrote. ``run_id`` is the run that was tried, if
    it is one already; ``failure`` says why nothing could be measured.
    """

    __tablename__ = "preflights"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    run_id: Mapped[str | None] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), index=True
    )
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    dataset_version_id: Mapped[str] = mapped_column(
        ForeignKey("dataset_versions.id", ondelete="CASCADE"), index=True
    )
    base_model_id: Mapped[str] = mapped_column(
        ForeignKey("base_models.id", ondelete="CASCADE"), index=True
    )
    mode: Mapped[str]
    spec: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    failure: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]
