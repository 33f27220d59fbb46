"""Splits of a version: which rows are held out, stored so that runs compared used the same ones.

Rows that are copies or near copies of each other stay on one side, whatever the method; rows with
errors are on no side that counts. A large version is parted by a job of the light lane, a small one
at once. How sides come to be is ``parting``. Knows no HTTP and no worker.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.roles import Actor, require_owner, require_write
from app.datasets import repository, service
from app.datasets.models import Dataset, DatasetSplit, DatasetVersion
from app.datasets.parting import Progress, parted
from app.errors import Conflict, Invalid, NotFound
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.state import FailureKind, JobKind
from app.kit.db import after_commit
from app.kit.ids import new_id
from app.kit.storage import Storage
from app.queue import Lane

HELD_OUT_WORDS = ("validation", "valid", "val", "dev", "test", "eval", "evaluation", "held_out")
# From here on nobody waits for the answer: reading all rows takes seconds.
LARGE_ROWS, LARGE_BYTES = 200_000, 128 * 2**20
_STOPPED = "It was stopped before it was made. Ask for it again."

OpenSession = Callable[[], AbstractContextManager[Session]]
Status = Literal["making", "ready", "failed"]


def create(
    session: Session,
    *,
    actor: Actor,
    storage: Storage,
    version: DatasetVersion,
    method: str,
    parameters: Mapping[str, Any],
) -> DatasetSplit:
    """Part a version's rows and store the sides; the same wish again gives the same split.

    Of a large version the split is made by a job: it ``is_made`` once that is done. Raises
    ``Conflict`` while the version is being checked, ``Invalid`` where a side would be empty.
    """
    require_write(actor)
    service.require_good_rows(version)
    parameters = _resolved(session, version, parameters)
    split = _known(session, version, method, parameters)
    if split is not None and (split.is_made or repository.unfinished_jobs(session, [split.id])):
        return split
    if split is None:
        split = DatasetSplit(
            id=new_id("spl"),
            version_id=version.id,
            method=method,
            parameters=parameters,
            result={},
            sha256="",
            created_by=actor.id,
        )
        _audit(session, actor, "dataset.split", version, method=method)
    if _is_large(version):
        split.failure = None
        session.add(split)
        session.flush()
        _queue(session, actor, version, split)
    else:
        other = measured(session, split)
        _keep(
            split,
            storage,
            *parted(storage, version, method=method, parameters=parameters, other=other),
        )
        session.add(split)
        session.flush()
    return split


def _known(
    session: Session, version: DatasetVersion, method: str, parameters: Mapping[str, Any]
) -> DatasetSplit | None:
    found = repository.splits(session, [version.id])
    return next(
        (one for one in found if one.method == method and one.parameters == parameters), None
    )


def _is_large(version: DatasetVersion) -> bool:
    rows = (version.examples or 0) + (version.bad_rows or 0)
    return rows >= LARGE_ROWS or version.bytes >= LARGE_BYTES


def _queue(session: Session, actor: Actor, version: DatasetVersion, split: DatasetSplit) -> None:
    dataset = session.get_one(Dataset, version.dataset_id)
    jobs.submit(
        session,
        kind=JobKind.SPLIT_DATASET,
        lane=Lane.LIGHT,
        title=f"Split {dataset.name} v{version.number}",
        subject_id=split.id,
        owner_id=actor.id,
    )


def _keep(split: DatasetSplit, storage: Storage, sides: bytes, result: dict[str, Any]) -> None:
    with storage.open(split.key, "wb") as target:
        target.write(sides)
    split.result, split.sha256, split.failure = result, hashlib.sha256(sides).hexdigest(), None


def make(open_session: OpenSession, *, storage: Storage, split_id: str, progress: Progress) -> None:
    """Part the rows for a split that was asked for; one that was deleted meanwhile is let be.

    ``Conflict`` where a side would be empty: the user has to ask for something else.
    """
    with open_session() as session:
        split = session.get(DatasetSplit, split_id)
        if split is None or split.is_made:
            return
        version = session.get_one(DatasetVersion, split.version_id)
        service.require_good_rows(version)
        other = measured(session, split)
    try:
        sides, result = parted(
            storage,
            version,
            method=split.method,
            parameters=split.parameters,
            other=other,
            progress=progress,
        )
    except Invalid as error:
        raise Conflict(error.detail, code=FailureKind.BAD_DATASET) from error
    with open_session() as session:
        here = session.get(DatasetSplit, split_id, with_for_update=True)
        if here is not None:
            _keep(here, storage, sides, result)


def give_up(session: Session, *, split_id: str, reason: str) -> None:
    """Say why a split could not be made."""
    split = session.get(DatasetSplit, split_id)
    if split is not None and not split.is_made:
        split.failure = reason


def _resolved(
    session: Session, version: DatasetVersion, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parameters as they are stored: a file by the version that it is today."""
    named = parameters.get("file")
    if named is None:
        return dict(parameters)
    try:
        other = service.get_version(session, dataset_id=named["id"], number=named["version"])
    except NotFound as error:
        raise Invalid.field("file", error.detail) from error
    if other.id == version.id:
        raise Invalid.field("file", "a version cannot be its own held-out file; name another one")
    service.require_good_rows(other)
    return {**parameters, "file": {"id": named["id"], "version": other.number}}


def listed(session: Session, *, dataset_id: str, number: int | None) -> Sequence[DatasetSplit]:
    """Return the splits of a dataset, or of one version, newest first."""
    view = service.get(session, dataset_id=dataset_id)
    versions = [version.id for version in view.versions if number in {None, version.number}]
    return repository.splits(session, versions)


def get(session: Session, *, dataset_id: str, split_id: str) -> DatasetSplit:
    """Return a split of a dataset or raise ``NotFound``."""
    for split in listed(session, dataset_id=dataset_id, number=None):
        if split.id == split_id:
            return split
    raise NotFound("The dataset has no such split. It may have been deleted; see the list.")


def jobs_of(session: Session, found: Iterable[DatasetSplit]) -> Mapping[str, Job]:
    """Return the jobs that make these splits, those that are queued or at work, by split."""
    return repository.unfinished_jobs(session, [one.id for one in found if not one.is_made])


def status_of(split: DatasetSplit, job: Job | None) -> tuple[Status, str | None]:
    """Return how a split stands, and why it could not be made; ``job`` makes it, if one does."""
    if split.is_made:
        return "ready", None
    return ("making", None) if job is not None else ("failed", split.failure or _STOPPED)


def made(session: Session, *, version: DatasetVersion) -> Sequence[DatasetSplit]:
    """Return the splits of a version that can be used, newest first."""
    return [split for split in repository.splits(session, [version.id]) if split.is_made]


def shares(session: Session, *, version: DatasetVersion) -> dict[str, float]:
    """Return what share of the rows each split of a version measures with, by the split's id."""
    found: dict[str, float] = {}
    for split in made(session, version=version):
        measured = split.result.get("of_file") or split.result["held_out"]
        found[split.id] = measured / (measured + split.result["trained"])
    return found


def measured_version(session: Session, *, split_id: str | None) -> DatasetVersion | None:
    """Return the version that a split measures with, if that is another one.

    Raises ``NotFound`` if it was deleted meanwhile.
    """
    split = session.get(DatasetSplit, split_id) if split_id else None
    return measured(session, split) if split is not None else None


def measured(session: Session, split: DatasetSplit) -> DatasetVersion | None:
    """Return the version that a split measures with, if that is another one."""
    named = split.parameters.get("file")
    if named is None:
        return None
    return service.get_version(session, dataset_id=named["id"], number=named["version"])


def delete(
    session: Session, *, actor: Actor, storage: Storage, dataset_id: str, split_id: str
) -> None:
    """Delete a split; ``Conflict`` names the runs that rest on it."""
    split = get(session, dataset_id=dataset_id, split_id=split_id)
    require_owner(actor, split.created_by)
    runs = repository.runs_with_split(session, split_id)
    if runs:
        raise Conflict(service.used_by(runs), code="split_in_use")
    version = session.get_one(DatasetVersion, split.version_id)
    after_commit(session, partial(storage.delete, split.key))
    session.delete(split)
    _audit(session, actor, "dataset.delete_split", version, method=split.method)


def _audit(
    session: Session, actor: Actor, action: str, version: DatasetVersion, **detail: Any
) -> None:
    dataset = session.get_one(Dataset, version.dataset_id)
    auth.audit(
        session,
        actor=actor,
        action=action,
        subject_type="dataset",
        subject_id=dataset.id,
        detail={"name": dataset.name, "version": version.number, **detail},
    )
