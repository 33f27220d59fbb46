"""How a repaired version comes to be: asked for here, made by the job that checks it.

The new version is stored at once, with its parent and its recipe, and waits for its content under
a name that is no hash. The job streams the parent's rows through the repairs into the storage,
beside their place, and moves them there when they are whole; killed on the way it starts again.
Knows no HTTP and no worker.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.roles import Actor, require_owner
from app.datasets import previewing, repository, service
from app.datasets.arriving import quota
from app.datasets.models import Dataset, DatasetVersion, unmade_sha256
from app.datasets.repairs import REPAIRS, in_order
from app.datasets.repairs.base import Reading, Repair
from app.datasets.repairs.passing import Tally, repaired
from app.datasets.service import DatasetView
from app.errors import Conflict, Invalid, NotFound
from app.jobs.state import FailureKind
from app.kit.ids import new_id
from app.kit.storage import Storage, require_space
from app.settings import Settings

_TOLD_BYTES = 4 * 2**20
_ENDINGS = (".gz", ".zst", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")

OpenSession = Callable[[], AbstractContextManager[Session]]
Progress = Callable[[float, str], None]


def checked_names(names: Sequence[str]) -> list[str]:
    """Return the names of repairs, each once and in the order in which they are made."""
    unknown = [name for name in names if name not in REPAIRS]
    if unknown:
        known = ", ".join(REPAIRS)
        raise Invalid.field("repairs", f"there is no repair {unknown[0][:40]!r}; use {known}")
    if not names:
        raise Invalid.field("repairs", "choose at least one repair")
    return [repair.name for repair in in_order(names)]


def request(
    session: Session,
    *,
    actor: Actor,
    storage: Storage,
    settings: Settings,
    dataset_id: str,
    number: int | None,
    names: Sequence[str],
) -> DatasetView:
    """Add a repaired version to a dataset of the actor's, and queue its making and check.

    ``Conflict`` where nothing would change, where a version with these repairs is there already,
    and while the version to repair is not checked.
    """
    wanted = checked_names(names)
    dataset = repository.lock(session, dataset_id)
    if dataset is None:
        raise NotFound("There is no such dataset. It may have been deleted; see the list.")
    require_owner(actor, dataset.owner_id)
    parent = service.get_version(session, dataset_id=dataset_id, number=number)
    service.require_checked(parent)
    _require_new(session, parent, wanted)
    if previewing.preview(session, storage, parent, names=wanted, limit=0).does_nothing:
        raise Conflict(
            f"These repairs change nothing in version {parent.number}.", code="nothing_to_repair"
        )
    require_space(settings.data_folder, parent.bytes)
    quota.require(session, actor=actor, settings=settings, size=parent.bytes)
    _add(session, actor=actor, dataset=dataset, parent=parent, names=wanted)
    return service.get(session, dataset_id=dataset_id)


def _require_new(session: Session, parent: DatasetVersion, names: list[str]) -> None:
    for version in repository.versions(session, [parent.dataset_id]):
        recipe = version.recipe or {}
        if (
            version.parent_id == parent.id
            and recipe.get("repairs") == names
            and version.status != "failed"
        ):
            raise Conflict(
                f"Version {version.number} is version {parent.number} with these repairs.",
                code="already_repaired",
            )


def _add(
    session: Session, *, actor: Actor, dataset: Dataset, parent: DatasetVersion, names: list[str]
) -> None:
    latest = repository.version(session, dataset.id, None)
    version_id = new_id("ver")
    version = DatasetVersion(
        id=version_id,
        dataset_id=dataset.id,
        number=(latest.number if latest else 0) + 1,
        sha256=unmade_sha256(version_id),
        bytes=parent.bytes,  # about; until it is made
        filename=_filename(parent),
        storage_key=f"datasets/{version_id}/original",
        declared_format=parent.declared_format,
        mapping=parent.mapping,
        parent_id=parent.id,
        recipe={"repairs": names, "parent": parent.number},
        status="checking",
        created_by=actor.id,
    )
    session.add(version)
    session.flush()
    auth.audit(
        session,
        actor=actor,
        action="dataset.repair",
        subject_type="dataset",
        subject_id=dataset.id,
        detail={
            "name": dataset.name,
            "parent": parent.number,
            "version": version.number,
            "repairs": names,
        },
    )
    service.queue_check(session, actor=actor, dataset=dataset, version=version)


def _filename(parent: DatasetVersion) -> str:
    """Return the name of the repaired file: rows of another container are written as JSONL."""
    name = parent.filename
    if parent.is_plain:
        return name
    while ending := next((end for end in _ENDINGS if name.lower().endswith(end)), None):
        name = name[: -len(ending)]
    return f"{name or 'rows'}.jsonl"


@dataclass(frozen=True)
class _Plan:
    """What is to be made, and of what."""

    version_id: str
    parent: DatasetVersion
    reading: Reading
    repairs: Sequence[Repair]
    target: str

    @property
    def aside(self) -> str:
        """Return where the content is written until it is whole."""
        return f"{self.target}-unmade"


def require_made(version: DatasetVersion) -> None:
    """Raise ``Conflict`` while a repaired version has no content yet."""
    if not version.is_made:
        what = "could not be made" if version.status == "failed" else "is still being made"
        raise Conflict(f"The version {what}. Try again later.", code="dataset_not_made")


def make(
    open_session: OpenSession, *, storage: Storage, version_id: str, progress: Progress
) -> None:
    """Write the content of a version that has a recipe and none yet; else do nothing.

    ``Conflict`` where no row is left, or where the dataset has this very content already.
    """
    with open_session() as session:
        plan = _plan(session, version_id)
    if plan is None:
        return
    digest, size, tally = _write(plan, storage, progress)
    try:
        with open_session() as session:
            _require_use(session, plan, digest, tally)
    except Conflict:
        storage.delete(plan.aside)
        raise
    storage.move(plan.aside, plan.target)
    with open_session() as session:
        version = session.get_one(DatasetVersion, version_id)
        version.sha256, version.bytes = digest, size
        version.recipe = (version.recipe or {}) | {"counts": _counts(plan, tally)}


def _plan(session: Session, version_id: str) -> _Plan | None:
    version = session.get(DatasetVersion, version_id)
    if version is None or version.is_made:
        return None
    parent = session.get(DatasetVersion, version.parent_id) if version.parent_id else None
    if parent is None:
        raise NotFound("The version to repair is gone.")
    names = (version.recipe or {}).get("repairs", [])
    reading = previewing.reading_of(parent)
    return _Plan(version.id, parent, reading, in_order(names), version.storage_key)


def _write(plan: _Plan, storage: Storage, progress: Progress) -> tuple[str, int, Tally]:
    """Write the repaired rows aside; return their hash, size and what was done."""
    digest, size, tally, told = hashlib.sha256(), 0, Tally(), 0
    with (
        previewing.opened(storage, plan.parent) as (stream, known),
        storage.open(plan.aside, "wb") as target,
    ):
        total = max(1, storage.size(plan.parent.rows_key))
        for piece in repaired(stream, plan.repairs, reading=plan.reading, known=known, tally=tally):
            target.write(piece)
            digest.update(piece)
            size += len(piece)
            if tally.done - told >= _TOLD_BYTES:
                told = tally.done
                share = min(1.0, told / total)
                progress(share, f"repairing: {told / 2**20:,.0f} of {total / 2**20:,.0f} MiB")
    return digest.hexdigest(), size, tally


def _require_use(session: Session, plan: _Plan, digest: str, tally: Tally) -> None:
    if not tally.kept:
        raise Conflict(
            "These repairs leave no row. Correct the rows, then upload them again.",
            code=FailureKind.BAD_DATASET,
        )
    known = repository.version_by_content(session, plan.parent.dataset_id, digest)
    if known is not None:
        raise Conflict(
            f"These repairs make what version {known.number} is already. Use that one.",
            code=FailureKind.BAD_DATASET,
        )


def _counts(plan: _Plan, tally: Tally) -> dict[str, Any]:
    """Return how many lines each repair changed and dropped, and what could not be read."""
    counts: dict[str, Any] = {
        repair.name: {"changed": tally.changed[repair.name], "dropped": tally.dropped[repair.name]}
        for repair in plan.repairs
    }
    return counts | ({"unreadable": tally.unreadable} if tally.unreadable else {})
