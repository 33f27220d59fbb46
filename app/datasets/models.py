"""Tables of datasets, their immutable versions, and what validation found."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.clock import utc_now
from app.kit.db import Base

_UNMADE = "making:"


def unmade_sha256(version_id: str) -> str:
    """Return what stands for the hash of a version whose content a job has still to bring."""
    return _UNMADE + version_id


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
    container: Mapped[str | None]  # jsonl | json | csv | tsv | parquet, once it is known
    compression: Mapped[str | None]  # gzip | zstd
    format: Mapped[str | None]
    declared_format: Mapped[str | None]  # what the user says it is; else it is detected
    mapping: Mapped[dict[str, Any] | None]  # our column → the file's
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("dataset_versions.id"))
    recipe: Mapped[
        dict[str, Any] | None
    ]  # how it was made from its parent, or what is still to be fetched
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
    first_stage_at: Mapped[datetime | None]  # all that rows say by themselves is known
    checked_at: Mapped[datetime | None]

    @property
    def folder(self) -> str:
        """Return the storage key below which all files of this version lie."""
        return f"datasets/{self.id}"

    @property
    def is_made(self) -> bool:
        """Tell whether its content is there."""
        return not self.sha256.startswith(_UNMADE)

    @property
    def content_hash(self) -> str | None:
        """Return the SHA-256 of its content, or None until that is there."""
        return self.sha256 if self.is_made else None

    @property
    def is_plain(self) -> bool:
        """Tell whether the file as uploaded has one row of JSON a line."""
        return self.container in {None, "jsonl"} and self.compression is None

    @property
    def rows_key(self) -> str:
        """Return the storage key of the rows, one JSON object a line, with the file's columns."""
        return self.storage_key if self.is_plain else f"{self.folder}/rows"

    @property
    def table_key(self) -> str:
        """Return the storage key of the table: where each row lies (see ``table``)."""
        return f"{self.folder}/table"

    @property
    def groups_key(self) -> str:
        """Return the storage key of each row's group: rows that repeat each other share one."""
        return f"{self.folder}/groups"

    @property
    def bands_key(self) -> str:
        """Return the storage key of each row's MinHash bands (see ``similarity``)."""
        return f"{self.folder}/bands"


class TokenReport(Base):
    """What a version costs in tokens of a base model; ``result`` once its job is done."""

    __tablename__ = "token_reports"
    __table_args__ = (UniqueConstraint("version_id", "base_model_id", "max_length"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(
        ForeignKey("dataset_versions.id", ondelete="CASCADE"), index=True
    )
    base_model_id: Mapped[str] = mapped_column(ForeignKey("base_models.id", ondelete="CASCADE"))
    max_length: Mapped[int]
    result: Mapped[dict[str, Any] | None]
    failure: Mapped[str | None]
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]


class DatasetSplit(Base):
    """Which rows of a version are held out; never changed, so that runs compared share it.

    The rows' sides lie in the storage, one byte a row in the table's order: 0 trained, 1 held out.
    """

    __tablename__ = "dataset_splits"

    id: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(
        ForeignKey("dataset_versions.id", ondelete="CASCADE"), index=True
    )
    method: Mapped[str]  # random | file | column | group | stratified
    parameters: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any]]  # counts of both sides, and what was moved to keep them apart
    sha256: Mapped[str]  # over the sides; empty until they are made
    failure: Mapped[str | None]  # why they could not be made
    created_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    @property
    def key(self) -> str:
        """Return the storage key of the rows' sides."""
        return f"datasets/{self.version_id}/split-{self.id}"

    @property
    def is_made(self) -> bool:
        """Tell whether the rows' sides are there."""
        return bool(self.sha256)


class Upload(Base):
    """A file on its way in piece by piece; it is a version once all of it is here."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    filename: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)  # of the whole file
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)

    @property
    def key(self) -> str:
        """Return the storage key of what has come so far."""
        return f"uploads/{self.id}"


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
