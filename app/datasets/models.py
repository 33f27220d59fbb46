"""Tables of datasets, their immutable versions, and what validation found."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import utc_now
from app.kit.db import Base


class Dataset(Base):
    """A named series of versions. A deleted one stays for the runs that name it."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    deleted_at: Mapped[datetime | None]


class DatasetVersion(Base):
    """One uploaded content, named by its SHA-256; never changed once checked."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        UniqueConstraint("dataset_id", "sha256", name="uq_dataset_versions_content"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    number: Mapped[int]
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    filename: Mapped[str]
    storage_key: Mapped[str]
    format: Mapped[str | None]
    status: Mapped[str]  # checking | ready | invalid | failed
    examples: Mapped[int | None] = mapped_column(BigInteger)
    errors: Mapped[int | None] = mapped_column(BigInteger)
    warnings: Mapped[int | None] = mapped_column(BigInteger)
    bad_rows: Mapped[int | None] = mapped_column(BigInteger)
    by_code: Mapped[dict[str, Any] | None]
    statistics: Mapped[dict[str, Any] | None]
    failure: Mapped[str | None]
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    checked_at: Mapped[datetime | None]


class ProblemRow(Base):
    """One finding of validation, at most 10,000 stored per code of a version."""

    __tablename__ = "problems"
    __table_args__ = (Index("ix_problems_code", "version_id", "code", "line"),)

    version_id: Mapped[str] = mapped_column(
        ForeignKey("dataset_versions.id", ondelete="CASCADE"), primary_key=True
    )
    line: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)  # its order within the line
    code: Mapped[str]
    severity: Mapped[str]
    message: Mapped[str]
    hint: Mapped[str]
    excerpt: Mapped[str]
    mark_start: Mapped[int]
    mark_end: Mapped[int]
