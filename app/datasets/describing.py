"""What a user says of a version: the format of its rows, and which column is which of ours.

Said once, it is kept with the version, goes on to the dataset's next one, and starts the check
again. Knows no HTTP.
"""

from collections.abc import Mapping
from functools import partial

from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.roles import Actor, require_owner
from app.datasets import repository, service
from app.datasets.check.signatures import HEAD_BYTES, first_rows
from app.datasets.formats import FORMATS
from app.datasets.models import Dataset, DatasetVersion
from app.datasets.service import DatasetView
from app.errors import Conflict, FieldError, Invalid, NotFound
from app.kit.db import after_commit
from app.kit.storage import Storage

_NAMED = 12  # columns that a message names


def columns_of(storage: Storage, version: DatasetVersion) -> tuple[str, ...]:
    """Return the columns that the first rows of a version have, by the file's names.

    None are known of a file that cannot be read, or whose first row is very long.
    """
    if not storage.exists(version.rows_key):
        return ()
    with storage.open(version.rows_key) as stream:
        head = stream.read(HEAD_BYTES)
    return tuple(dict.fromkeys(key for row in first_rows(head) for key in row))


def describe(
    session: Session,
    *,
    actor: Actor,
    storage: Storage,
    dataset_id: str,
    number: int | None,
    declared_format: str | None,
    mapping: Mapping[str, str],
) -> DatasetView:
    """Say what a version's rows are, and queue its check anew; the latest version's by default.

    ``mapping`` is our column → the file's. Without a format it is detected, and nothing is mapped.
    """
    dataset = repository.lock(session, dataset_id)
    if dataset is None:
        raise NotFound("There is no such dataset. It may have been deleted; see the list.")
    require_owner(actor, dataset.owner_id)
    version = service.get_version(session, dataset_id=dataset_id, number=number)
    _require_free(session, version)
    _require_columns(declared_format, mapping, columns_of(storage, version))
    version.declared_format = declared_format
    version.mapping = dict(mapping) or None
    _forget(session, storage=storage, version=version)
    _check_again(session, actor=actor, dataset=dataset, version=version)
    return service.get(session, dataset_id=dataset_id)


def _require_free(session: Session, version: DatasetVersion) -> None:
    runs = repository.runs_with_version(session, version.id)
    if runs:
        raise Conflict(service.used_by(runs), code="dataset_in_use")
    if version.status == "checking":
        raise Conflict(
            "The version is still being checked. Say it when the check is done.",
            code="dataset_not_checked",
        )


def _require_columns(
    declared_format: str | None, mapping: Mapping[str, str], columns: tuple[str, ...]
) -> None:
    """Raise ``Invalid`` that names each of our columns or of the file's that there is not."""
    if declared_format is None:
        if mapping:
            raise Invalid.field("format", "say which format the columns are mapped to")
        return
    service.require_format(declared_format)
    ours = [column.name for column in FORMATS[declared_format].columns]
    errors: list[FieldError] = []
    for name, column in mapping.items():
        field = f"mapping.{name}"
        if name not in ours:
            message = f"{declared_format} has no such column; it has {', '.join(ours)}"
            errors.append(FieldError(field, message))
        elif columns and column not in columns:
            message = f'the file has no column "{column}"; it has {_listed(columns)}'
            errors.append(FieldError(field, message))
    if errors:
        detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
        raise Invalid(detail, errors=tuple(errors))


def _listed(columns: tuple[str, ...]) -> str:
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return ", ".join(columns[:_NAMED]) + more


def _forget(session: Session, *, storage: Storage, version: DatasetVersion) -> None:
    """Forget what the last check found, and what rests on it."""
    repository.delete_problems(session, version.id)
    repository.delete_token_reports(session, version.id)
    for key in repository.delete_splits(session, version.id):
        after_commit(session, partial(storage.delete, key))
    version.format = version.failure = None
    version.examples = version.errors = version.warnings = version.bad_rows = None
    version.by_code = version.statistics = None
    version.first_stage_at = version.checked_at = None


def _check_again(
    session: Session, *, actor: Actor, dataset: Dataset, version: DatasetVersion
) -> None:
    version.status = "checking"  # allow: status — a version's outcome, not a job's state
    auth.audit(
        session,
        actor=actor,
        action="dataset.describe",
        subject_type="dataset",
        subject_id=dataset.id,
        detail={
            "name": dataset.name,
            "version": version.number,
            "format": version.declared_format,
            "mapping": version.mapping,
        },
    )
    service.queue_check(session, actor=actor, dataset=dataset, version=version)
