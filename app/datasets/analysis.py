"""The check of one version, as a job: made or read, looked at in two stages, and published.

After the first stage all that rows say by themselves is stored and can be seen, while the version
stays ``checking``; its outcome comes with the second. Problems go to the database in batches. A
check that starts again after a killed worker first forgets what the earlier one had stored, so half
a report is never shown as whole. Knows no HTTP and no worker.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy.orm import Session

from app.datasets import making, repository
from app.datasets.arriving import fetching
from app.datasets.check.stages import Asked, Tell, first_stage, processes, second_stage
from app.datasets.check.validation import Report
from app.datasets.intake import Identified, identify, limits_of
from app.datasets.models import DatasetVersion
from app.datasets.problems import Problem
from app.errors import NotFound
from app.kit.clock import utc_now
from app.kit.storage import Storage, safe_part
from app.settings import get_settings

_BATCH = 1000
_FIRST = 0.5  # of the time, about
_COPIED = 2**20
OpenSession = Callable[[], AbstractContextManager[Session]]
Progress = Callable[[float, str], None]


def analyse(
    open_session: OpenSession, *, storage: Storage, version_id: str, progress: Progress
) -> Report:
    """Check a version; it ends ``ready`` or ``invalid``.

    ``progress`` gets the share done (0 to 1) and a sentence. ``open_session`` opens short
    transactions. An exception means that we failed: the caller then calls ``give_up``.
    """
    settings = get_settings()
    fetching.fetch(open_session, settings=settings, version_id=version_id, progress=progress)
    making.make(open_session, storage=storage, version_id=version_id, progress=progress)
    check = _Check(open_session, storage, version_id, progress)
    with check.folder() as folder, (folder / "table").open("w+b") as table:
        report = check.first(folder, table)
        if report.format is not None:
            check.second(folder, table, report)
    check.publish(report)
    return report


class _Check:
    """One version's check: its parts in the order in which they are done."""

    def __init__(
        self, open_session: OpenSession, storage: Storage, version_id: str, progress: Progress
    ) -> None:
        self._open_session, self._storage, self._progress = open_session, storage, progress
        self._id = version_id
        with open_session() as session:
            version = _version(session, version_id)
            _forget(session, version)
            session.flush()
            for key in (version.table_key, version.groups_key, version.bands_key):
                storage.delete(key)
        self._version = version
        self._store = _Store(open_session, version_id)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Make this check's own folder; what a killed check left in it goes first."""
        path = get_settings().data_folder / "checks" / safe_part(self._id)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _asked(self, folder: Path) -> Asked:
        version, limits = self._version, limits_of(get_settings())
        named = version.declared_format, version.mapping
        return Asked(*named, processes=processes(), limits=limits, folder=folder)

    def first(self, folder: Path, table: IO[bytes]) -> Report:
        """Find what rows say by themselves, and let it be seen."""
        with self._storage.open(self._version.storage_key) as stream:
            identified = identify(stream)
            self._note(identified)
            report = first_stage(
                stream,
                identified,
                asked=self._asked(folder),
                open_rows=self._open_rows,
                table=table,
                emit=self._store.add,
                tell=self._telling("reading rows", 0.0, _FIRST),
            )
        self._store.flush()
        self._keep(table)
        with self._open_session() as session:
            version = _version(session, self._id)
            _describe(version, report)
            version.first_stage_at = utc_now()
        return report

    def second(self, folder: Path, table: IO[bytes], report: Report) -> None:
        """Find what rows say together."""
        version = self._version
        with (
            self._open_rows("rb") as rows,
            self._storage.open(version.bands_key, "wb") as bands,
            self._storage.open(version.groups_key, "wb") as groups,
        ):
            second_stage(
                rows,
                report,
                asked=self._asked(folder),
                table=table,
                bands=bands,
                groups=groups,
                emit=self._store.add,
                tell=self._telling("comparing rows", _FIRST, 1.0),
            )
        self._store.flush()
        self._keep(table)

    def publish(self, report: Report) -> None:
        """Say the outcome."""
        with self._open_session() as session:
            version = _version(session, self._id)
            _describe(version, report)
            version.checked_at = utc_now()
            version.failure = None
            version.status = report.status  # allow: status — a version's outcome, not a job's state

    def _note(self, identified: Identified) -> None:
        """Keep what kind of file it is; where its rows lie depends on that."""
        with self._open_session() as session:
            version = _version(session, self._id)
            version.container, version.compression = identified.container, identified.compression
            session.flush()
        self._version = version

    def _open_rows(self, mode: str) -> IO[bytes]:
        return self._storage.open(self._version.rows_key, mode)

    def _keep(self, table: IO[bytes]) -> None:
        """Store the table; whoever reads it sees all of it or none."""
        unmade = f"{self._version.table_key}-unmade"
        table.seek(0)
        with self._storage.open(unmade, "wb") as target:
            shutil.copyfileobj(table, target, _COPIED)
        self._storage.move(unmade, self._version.table_key)

    def _telling(self, what: str, low: float, high: float) -> Tell:
        """Return what tells the progress of a stage, which takes the time between two shares."""
        start, size = time.monotonic(), self._version.bytes / 2**20

        def tell(share: float, problems: int) -> None:
            share = min(1.0, share)
            rate = share * size / max(0.001, time.monotonic() - start)
            self._progress(
                low + (high - low) * share,
                f"{what}: {share * size:,.0f} of {size:,.0f} MiB, {rate:,.0f} MiB/s, "
                f"{problems:,} problems so far",
            )

        return tell


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


def _forget(session: Session, version: DatasetVersion) -> None:
    """Take back what an earlier check has said."""
    repository.delete_problems(session, version.id)
    version.status = "checking"  # allow: status — a version's outcome, not a job's state
    version.first_stage_at = version.checked_at = None
    version.examples = version.errors = version.warnings = version.bad_rows = None
    version.by_code = version.statistics = None


def _describe(version: DatasetVersion, report: Report) -> None:
    """Store what is known so far."""
    version.format = report.format
    version.examples = report.examples
    version.errors, version.warnings = report.errors, report.warnings
    version.bad_rows = len(report.bad_lines)
    version.by_code = {code.value: count for code, count in report.by_code.items()}
    version.statistics = dict(report.statistics)


def give_up(session: Session, *, version_id: str, reason: str) -> None:
    """Say that the check itself failed; the file is kept."""
    version = session.get(DatasetVersion, version_id)
    if version is not None and version.status == "checking":
        version.status = "failed"  # allow: status — a version's outcome, not a job's state
        version.failure = reason
