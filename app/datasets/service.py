"""What may be done with datasets: add a version, list, read problems and rows, delete.

Knows no HTTP. The check of a version's lines is ``analysis``; this module queues it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.roles import Actor, require_owner
from app.datasets import repository
from app.datasets.formats import FORMATS
from app.datasets.models import Dataset, DatasetVersion, ProblemRow, unmade_sha256
from app.datasets.problems import CATALOGUE, Code
from app.errors import Conflict, Invalid, NotFound
from app.jobs import service as jobs
from app.jobs.state import JobKind
from app.kit.clock import utc_now
from app.kit.db import after_commit
from app.kit.ids import new_id
from app.kit.pagination import Page, PageRequest, encode_cursor
from app.kit.storage import Storage
from app.queue import Lane

MAX_NAME = 120


@dataclass(frozen=True)
class Content:
    """A file that was received: where it lies for now, and what it is.

    One with an ``import_id`` is still in the import folder: the job that checks it brings it first.
    """

    key: str
    filename: str
    size: int
    sha256: str
    import_id: str | None = None


@dataclass(frozen=True)
class DatasetView:
    """A dataset with its versions, newest first, and how many runs use it."""

    dataset: Dataset
    versions: Sequence[DatasetVersion]
    runs: int

    @property
    def latest(self) -> DatasetVersion:
        """Return the newest version; every dataset has one."""
        return self.versions[0]


def checked_name(name: str, *, filename: str) -> str:
    """Return a dataset's name: what was given, or the file's name without its ending."""
    name = name.strip() or filename.rsplit(".", 1)[0].strip()
    if not name or len(name) > MAX_NAME:
        raise Invalid.field("name", f"use 1 to {MAX_NAME} characters")
    if any(char in "/\\" or not char.isprintable() for char in name):
        raise Invalid.field("name", "a name is no path: leave out slashes and control characters")
    return name


def add_version(  # an upload's parts, each named at the call
    session: Session,
    *,
    actor: Actor,
    storage: Storage,
    content: Content,
    name: str = "",
    dataset_id: str | None = None,
    declared_format: str | None = None,
) -> DatasetView:
    """Take a received file as a new dataset or as a new version, and queue its check.

    The same bytes under the same dataset are the same version: nothing new is made. The received
    file is removed once the transaction is committed.
    """
    if declared_format:
        require_format(declared_format)
    if dataset_id:
        dataset = _own(session, actor=actor, dataset_id=dataset_id)
    else:
        dataset = _new_dataset(session, actor=actor, name=name, filename=content.filename)
    is_here = content.import_id is None
    known = repository.version_by_content(session, dataset.id, content.sha256) if is_here else None
    if known is None:
        _new_version(
            session,
            actor=actor,
            storage=storage,
            dataset=dataset,
            content=content,
            declared_format=declared_format,
        )
    else:
        after_commit(session, partial(storage.delete, content.key))
    return get(session, dataset_id=dataset.id)


def require_format(name: str) -> None:
    """Raise ``Invalid`` unless there is a format of this name."""
    if name not in FORMATS:
        names = ", ".join(FORMATS)
        raise Invalid.field("format", f"use one of {names}; leave it out to detect it")


def _own(session: Session, *, actor: Actor, dataset_id: str) -> Dataset:
    dataset = repository.lock(session, dataset_id)
    if dataset is None:
        raise Invalid.field("dataset", "there is no such dataset; leave it out to make a new one")
    require_owner(actor, dataset.owner_id)
    return dataset


def _new_dataset(session: Session, *, actor: Actor, name: str, filename: str) -> Dataset:
    checked = checked_name(name, filename=filename)
    dataset = Dataset(id=new_id("ds"), name=checked, owner_id=actor.id)
    session.add(dataset)
    session.flush()
    return dataset


def _new_version(  # a version's parts, each named at the call
    session: Session,
    *,
    actor: Actor,
    storage: Storage,
    dataset: Dataset,
    content: Content,
    declared_format: str | None,
) -> DatasetVersion:
    latest = repository.version(session, dataset.id, None)
    # What was said of the dataset's last version holds for the next, unless this upload says more.
    before = latest if declared_format is None else None
    version_id = new_id("ver")
    version = DatasetVersion(
        id=version_id,
        dataset_id=dataset.id,
        number=latest.number + 1 if latest else 1,
        sha256=content.sha256 if content.import_id is None else unmade_sha256(version_id),
        bytes=content.size,
        filename=content.filename,
        storage_key=f"datasets/{version_id}/original",
        declared_format=before.declared_format if before else declared_format,
        mapping=before.mapping if before else None,
        recipe={"import": content.import_id} if content.import_id else None,
        status="checking",
        created_by=actor.id,
    )
    if content.import_id is None:
        # Linked before the commit: a version in the database always has its file, and an upload
        # keeps its own if the commit fails.
        storage.link(content.key, version.storage_key)
        after_commit(session, partial(storage.delete, content.key))
    session.add(version)
    session.flush()
    auth.audit(
        session,
        actor=actor,
        action="dataset.upload",
        subject_type="dataset",
        subject_id=dataset.id,
        detail={
            "name": dataset.name,
            "version": version.number,
            "sha256": version.sha256,
            "bytes": version.bytes,
        },
    )
    queue_check(session, actor=actor, dataset=dataset, version=version)
    return version


def queue_check(
    session: Session, *, actor: Actor, dataset: Dataset, version: DatasetVersion
) -> None:
    """Queue the job that checks a version."""
    jobs.submit(
        session,
        kind=JobKind.ANALYSE_DATASET,
        lane=Lane.LIGHT,
        title=f"Check {dataset.name} v{version.number}",
        subject_id=version.id,
        owner_id=actor.id,
    )


def get(session: Session, *, dataset_id: str) -> DatasetView:
    """Return a dataset with its versions; ``NotFound`` if it is deleted or never was."""
    dataset = repository.dataset(session, dataset_id)
    if dataset is None:
        raise NotFound("There is no such dataset. It may have been deleted; see the list.")
    return _views(session, [dataset])[0]


def get_version(session: Session, *, dataset_id: str, number: int | None = None) -> DatasetVersion:
    """Return one version by number, or the latest."""
    if repository.dataset(session, dataset_id) is None:
        raise NotFound("There is no such dataset. It may have been deleted; see the list.")
    version = repository.version(session, dataset_id, number)
    if version is None:
        raise NotFound(f"The dataset has no version {number}.")
    return version


def _views(session: Session, datasets: Sequence[Dataset]) -> list[DatasetView]:
    ids = [dataset.id for dataset in datasets]
    runs = repository.count_runs(session, ids)
    versions: dict[str, list[DatasetVersion]] = {}
    for version in repository.versions(session, ids):
        versions.setdefault(version.dataset_id, []).append(version)
    return [
        DatasetView(dataset, versions[dataset.id], runs.get(dataset.id, 0)) for dataset in datasets
    ]


def list_datasets(
    session: Session, *, page: PageRequest, q: str | None = None
) -> Page[DatasetView]:
    """Return datasets, newest first."""
    position = page.position(str, str)
    before = (_moment(position[0]), position[1]) if position else None
    found = repository.datasets(session, q=q, limit=page.limit + 1, before=before)
    shown = found[: page.limit]
    more = len(found) > page.limit
    cursor = encode_cursor([shown[-1].created_at.isoformat(), shown[-1].id]) if more else None
    return Page(_views(session, shown), cursor, repository.count_datasets(session, q=q))


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid.field("cursor", "use the value of `next` as it was answered") from error


def problems(
    session: Session,
    *,
    version: DatasetVersion,
    page: PageRequest,
    code: str | None = None,
    severity: str | None = None,
) -> Page[ProblemRow]:
    """Return stored problems by line; ``total`` is the true count, stored or not."""
    position = page.position(int, int)
    found = repository.problems(
        session,
        version_id=version.id,
        code=code,
        severity=severity,
        limit=page.limit + 1,
        after=(position[0], position[1]) if position else None,
    )
    shown = list(found[: page.limit])
    more = len(found) > page.limit
    cursor = encode_cursor([shown[-1].line, shown[-1].place]) if more else None
    return Page(shown, cursor, _count(version, code=code, severity=severity))


def _count(version: DatasetVersion, *, code: str | None, severity: str | None) -> int:
    counts = {"error": version.errors or 0, "warning": version.warnings or 0}
    if code is not None:
        if code not in set(Code):
            raise Invalid.field("code", "there is no such code; docs/problems.md lists them")
        fits = severity is None or CATALOGUE[Code(code)].severity == severity
        return int((version.by_code or {}).get(code, 0)) if fits else 0
    return counts.get(severity, 0) if severity else sum(counts.values())


def delete(session: Session, *, actor: Actor, storage: Storage, dataset_id: str) -> None:
    """Delete a dataset with all versions.

    ``Conflict`` names the runs that use it, or the datasets with a split that measures with it.
    """
    dataset = repository.lock(session, dataset_id)
    if dataset is None:
        raise NotFound("There is no such dataset. It may have been deleted; see the list.")
    require_owner(actor, dataset.owner_id)
    runs = repository.runs_with(session, dataset_id)
    if runs:
        raise Conflict(used_by(runs), code="dataset_in_use")
    measuring = repository.measuring_with(session, dataset_id)
    if measuring:
        raise Conflict(_measured_with_by(measuring), code="dataset_in_use")
    dataset.deleted_at = utc_now()
    for version in repository.versions(session, [dataset.id]):
        repository.delete_problems(session, version.id)
        after_commit(session, partial(storage.delete, f"datasets/{version.id}"))
    auth.audit(
        session,
        actor=actor,
        action="dataset.delete",
        subject_type="dataset",
        subject_id=dataset.id,
        detail={"name": dataset.name},
    )


def _measured_with_by(found: Sequence[tuple[str, str, int]]) -> str:
    named = [f"{name} v{number} ({dataset_id})" for dataset_id, name, number in found]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""  # noqa: PLR2004
    return (
        f"A split of {', '.join(named[:5])}{more} measures with it. "
        "Delete that split first, if no run rests on it."
    )


def used_by(runs: Iterable[tuple[str, str]]) -> str:
    """Return the sentence that names these runs, (id, name) each, and what rests on them."""
    named = [f"{name} ({run_id})" for run_id, name in runs]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""  # noqa: PLR2004
    return (
        f"It is used by {len(named)} run{'s' if len(named) > 1 else ''}: "
        f"{', '.join(named[:5])}{more}. "
        "Their results rest on it, so it stays."
    )


def require_checked(version: DatasetVersion) -> None:
    """Raise ``Conflict`` while a version's problems are not all known."""
    if version.status not in {"ready", "invalid"}:
        what = "is still being checked" if version.status == "checking" else "could not be checked"
        raise Conflict(f"The version {what}. Try again later.", code="dataset_not_checked")


def require_good_rows(version: DatasetVersion) -> None:
    """Raise ``Conflict`` unless there is something left of a version without its bad rows."""
    require_checked(version)
    if not version.examples:
        raise Conflict(
            "No row of this version is without errors. Correct the rows, then upload them again.",
            code="no_good_rows",
        )
