"""The check of one version, as a job: read from the storage, validate, store, publish the outcome.

Problems go to the database in batches while the check runs; the version stays ``checking`` until
all is known, so half a report is never shown as whole. A check that starts again after a killed
worker first forgets what the earlier one had stored. Knows no HTTP and no worker.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy.orm import Session

from app.datasets import making, repository
from app.datasets.models import DatasetVersion
from app.datasets.problems import Problem
from app.datasets.validation import Report, validate
from app.errors import NotFound
from app.kit.clock import utc_now
from app.kit.storage import Storage

_BATCH = 1000
OpenSession = Callable[[], AbstractContextManager[Session]]
Progress = Callable[[float, str], None]


def analyse(
    open_session: OpenSession, *, storage: Storage, version_id: str, progress: Progress
) -> Report:
    """Check a version; it ends ``ready`` or ``invalid``.

    ``progress`` gets the share done (0 to 1) and a sentence. ``open_session`` opens short
    transactions. An exception means that we failed: the caller then calls ``give_up``.
    """
    making.make(open_session, storage=storage, version_id=version_id, progress=progress)
    with open_session() as session:
        version = _version(session, version_id)
        version.status = "checking"  # allow: status — a version's outcome, not a job's state
        repository.delete_problems(session, version_id)
    store = _Store(open_session, version_id)

    def tell(done: int, found: int) -> None:
        share = done / version.bytes if version.bytes else 1.0
        progress(
            share,
            f"{done / 2**20:,.0f} of {version.bytes / 2**20:,.0f} MiB, {found:,} problems so far",
        )

    with (
        storage.open(version.storage_key) as stream,
        storage.open(version.table_key, "wb") as table,
    ):
        report = validate(
            stream,
            emit=store.add,
            progress=tell,
            declared=version.declared_format,
            mapping=version.mapping,
            table=table,
        )
    store.flush()
    with open_session() as session:
        _publish(_version(session, version_id), report)
    return report


class _Store:
    """Collects problems and writes them in batches, numbered in the order of their finding."""

    def __init__(self, open_session: OpenSession, version_id: str) -> None:
        self._open_session, self._version_id = open_session, version_id
        self._rows: list[dict[str, Any]] = []
        self._count = 0

    def add(self, problem: Problem) -> None:
        """Take one problem."""
        self._count += 1
        self._rows.append(_row(self._version_id, problem, self._count))
        if len(self._rows) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is collected."""
        rows, self._rows = self._rows, []
        with self._open_session() as session:
            repository.insert_problems(session, rows)


def _row(version_id: str, problem: Problem, place: int) -> dict[str, Any]:
    return {
        "version_id": version_id,
        "line": problem.line,
        "place": place,
        "code": problem.code.value,
        "severity": problem.severity.value,
        "message": _storable(problem.message),
        "hint": problem.hint,
        "excerpt": _storable(problem.excerpt),
        "mark_start": problem.mark_start,
        "mark_end": problem.mark_end,
    }


def _storable(text: str) -> str:
    """Return ``text`` without what Postgres cannot hold: NUL and lone surrogates."""
    return text.replace("\x00", "␀").encode("utf-8", "replace").decode("utf-8")


def _version(session: Session, version_id: str) -> DatasetVersion:
    version = session.get(DatasetVersion, version_id)
    if version is None:
        raise NotFound("The version was deleted before its check.")
    return version


def _publish(version: DatasetVersion, report: Report) -> None:
    version.format = report.format
    version.examples = report.examples
    version.errors, version.warnings = report.errors, report.warnings
    version.bad_rows = len(report.bad_lines)
    version.by_code = {code.value: count for code, count in report.by_code.items()}
    version.statistics = report.statistics
    version.checked_at = utc_now()
    version.failure = None
    version.status = report.status  # allow: status — a version's outcome, not a job's state


def give_up(session: Session, *, version_id: str, reason: str) -> None:
    """Say that the check itself failed; the file is kept."""
    version = session.get(DatasetVersion, version_id)
    if version is not None and version.status == "checking":
        version.status = "failed"  # allow: status — a version's outcome, not a job's state
        version.failure = reason
