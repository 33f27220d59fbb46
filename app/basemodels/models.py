"""Table of base models: what may be tuned."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import utc_now
from app.kit.db import Base


class BaseModelRow(Base):
    """A frozen model: a folder below the models folder, or a hub id at a pinned revision.

    ``facts`` is read from its files as data: architecture, hidden_size, layers, vocabulary,
    context_length, chat_template (bool), generation_markers (bool), quantization.
    """

    __tablename__ = "base_models"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    source: Mapped[str]  # demo | folder | hub
    folder: Mapped[str] = mapped_column(unique=True)  # its name below the models folder
    hub_id: Mapped[str | None]
    revision: Mapped[str | None]
    status: Mapped[str]  # downloading | ready | failed
    parameters: Mapped[int | None] = mapped_column(BigInteger)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    facts: Mapped[dict[str, Any]]
    failure: Mapped[str | None]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    deleted_at: Mapped[datetime | None]
