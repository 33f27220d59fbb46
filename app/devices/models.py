"""Table of devices: one row per GPU, or one for the CPU of a box without any."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class Device(Base):
    """A device that workers offer. It is free when ``job_id`` is None or the lease is over.

    ``reading`` is the last sample: memory_used, utilization, temperature, power, foreign
    (processes that are not ours), each absent where the device does not tell.
    """

    __tablename__ = "devices"

    id: Mapped[str] = mapped_column(primary_key=True)  # "<host>:cuda:0", "<host>:cpu"
    host: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]  # cpu | cuda
    index: Mapped[int]
    name: Mapped[str]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    driver: Mapped[str | None]
    compute_capability: Mapped[str | None]
    reading: Mapped[dict[str, Any]]
    last_seen_at: Mapped[datetime]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    attempt: Mapped[int | None]
    lease_until: Mapped[datetime | None]
