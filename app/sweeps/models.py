"""Tables of sweeps: what was asked, and which runs came of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import utc_now
from app.kit.db import Base


class Sweep(Base):
    """A search over fields of one run's config.

    ``search`` is ``grid.Search`` as JSON, ``halving`` is ``asha.Halving`` or NULL for none;
    ``metric`` and ``goal`` say which figure decides and whether less or more of it is better.
    """

    __tablename__ = "sweeps"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    dataset_version_id: Mapped[str] = mapped_column(ForeignKey("dataset_versions.id"))
    base_model_id: Mapped[str] = mapped_column(ForeignKey("base_models.id"), index=True)
    search: Mapped[dict[str, Any]]
    metric: Mapped[str]
    goal: Mapped[str]
    halving: Mapped[dict[str, Any] | None]
    note: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    stopped_at: Mapped[datetime | None]


class SweepRun(Base):
    """A run of a sweep: its place from 1, what it changes, and how far it was judged.

    ``rung`` counts the rungs at which it was judged; ``ended`` says why the sweep ended it early:
    {"rung", "step", "value", "place", "of", "text"}.
    """

    __tablename__ = "sweep_runs"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"), index=True)
    place: Mapped[int]
    values: Mapped[dict[str, Any]]
    rung: Mapped[int] = mapped_column(default=0)
    ended: Mapped[dict[str, Any] | None]
