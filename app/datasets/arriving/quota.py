"""How much of the storage a person uses, and how much they may: the quota of a box's members.

Counted are the versions that the person added to datasets which still exist, and the whole size of
their open uploads. Knows no HTTP and no file.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.auth.roles import Actor
from app.datasets.models import Dataset, DatasetVersion, Upload
from app.errors import TooLarge
from app.settings import Settings

_NAMED = 3  # datasets that a refusal names, the largest first

Fits = Callable[[int], None]


@dataclass(frozen=True)
class Allowance:
    """What a person uses of their quota, in bytes, and their largest datasets with sizes."""

    limit: int
    used: int
    uploads: int
    largest: tuple[tuple[str, int], ...]

    def require(self, size: int) -> None:
        """Raise ``TooLarge`` unless ``size`` more bytes fit into the quota."""
        if self.used + size <= self.limit:
            return
        raise TooLarge(
            f"This does not fit into your quota: {sized(self.used)} of {sized(self.limit)} are "
            f"used and {sized(size)} would come. {self._cure()}",
            code="quota_exceeded",
        )

    def _cure(self) -> str:
        named = ", ".join(f"{name} ({sized(size)})" for name, size in self.largest)
        cures = (
            [f"delete a dataset that you no longer need; your largest: {named}"] if named else []
        )
        if self.uploads:
            cures.append(f"discard unfinished uploads ({sized(self.uploads)})")
        cures.append("ask an admin to raise TUNEBOX_USER_QUOTA_BYTES")
        cure = ", or ".join(cures)
        return f"{cure[:1].upper()}{cure[1:]}."


def sized(count: int) -> str:
    """Return bytes as people read them: 512 B, 3.4 kB, 31 MB, 1.2 GB (steps of 1000)."""
    value, place = float(count), 0
    units = ("B", "kB", "MB", "GB", "TB")
    while value >= 1000 and place < len(units) - 1:  # noqa: PLR2004  # a step, as disks are sold
        value, place = value / 1000, place + 1
    return f"{value:.0f} B" if place == 0 else f"{value:.3g} {units[place]}"


def allowance(session: Session, *, actor: Actor, settings: Settings) -> Allowance | None:
    """Return what ``actor`` uses of their quota, or None where there is no quota."""
    limit = settings.user_quota_bytes
    if limit is None:
        return None
    datasets = _by_dataset(session, actor.id)
    uploads = session.scalar(select(func.sum(Upload.bytes)).where(Upload.owner_id == actor.id))
    waiting = int(uploads or 0)
    used = sum(size for _, size in datasets) + waiting
    return Allowance(limit, used, waiting, tuple(datasets[:_NAMED]))


def require(session: Session, *, actor: Actor, settings: Settings, size: int) -> None:
    """Raise ``TooLarge`` unless ``size`` more bytes fit; two requests at once are both counted.

    Whoever adds a row that counts calls this in the same transaction, before it.
    """
    if settings.user_quota_bytes is None:
        return
    lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))")
    session.execute(lock, {"lock": f"quota:{actor.id}"})
    found = allowance(session, actor=actor, settings=settings)
    if found is not None:
        found.require(size)


def _by_dataset(session: Session, user_id: str) -> list[tuple[str, int]]:
    """Return (name, bytes) of the datasets that the person added versions to, largest first."""
    size = func.sum(DatasetVersion.bytes)
    statement = (
        select(Dataset.name, size)
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .where(Dataset.deleted_at.is_(None), DatasetVersion.created_by == user_id)
        .group_by(Dataset.id)
        .order_by(size.desc())
    )
    return [(str(name), int(total)) for name, total in session.execute(statement)]


def by_person(session: Session) -> dict[str, int]:
    """Return how many bytes each person uses, by user id; who uses none is missing."""
    versions = (
        select(DatasetVersion.created_by, func.sum(DatasetVersion.bytes))
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Dataset.deleted_at.is_(None))
        .group_by(DatasetVersion.created_by)
    )
    uploads = select(Upload.owner_id, func.sum(Upload.bytes)).group_by(Upload.owner_id)
    found: dict[str, int] = {}
    for statement in (versions, uploads):
        for user_id, size in session.execute(statement):
            found[str(user_id)] = found.get(str(user_id), 0) + int(size)
    return found
