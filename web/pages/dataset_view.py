"""What the page of a dataset shows, gathered into its fragments. Reads through the services."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.datasets import service
from app.datasets.models import DatasetVersion, ProblemRow
from app.datasets.problems import CATALOGUE, Code
from app.datasets.repairs import REPAIRS
from app.jobs.models import Job
from app.kit.pagination import PageRequest
from app.runs.models import Run
from web.histograms import Histogram, histogram

_LINES_SHOWN = 5
_LINES_MORE = 50


# The first repair that ends a kind of problem; dropping bad rows ends all, and is offered apart.
_REPAIR_OF = {
    code.value: name
    for name, repair in reversed(list(REPAIRS.items()))
    for code in repair.codes
    if name != "bad_rows"
}


@dataclass(frozen=True)
class Summary:
    """The key figures of a version; while it is checked, its progress."""

    template: ClassVar[str] = "datasets/_summary.html"
    version: DatasetVersion
    progress: float
    progress_text: str
    secrets: int
    numbers: Mapping[str, Any]


def summary_of(session: Session, version: DatasetVersion) -> Summary:
    """Gather the key figures and, while it is checked, how far its job is."""
    job = session.scalar(
        select(Job).where(Job.subject_id == version.id).order_by(Job.number.desc()).limit(1)
    )
    return Summary(
        version=version,
        progress=job.progress if job else 0.0,
        progress_text=(job.phase or "It waits for a worker.") if job else "",
        secrets=int((version.by_code or {}).get(Code.POSSIBLE_SECRET, 0)),
        numbers=version.statistics or {},
    )


@dataclass(frozen=True)
class ProblemLine:
    """One problem: its excerpt in three parts, the middle one marked."""

    line: int
    before: str
    marked: str
    after: str
    message: str


@dataclass(frozen=True)
class Lines:
    """Lines with one kind of problem; ``left`` are not shown yet."""

    template: ClassVar[str] = "datasets/_lines.html"
    version: DatasetVersion
    code: str
    severity: str
    problems: tuple[ProblemLine, ...]
    next: str | None
    left: int


@dataclass(frozen=True)
class Group:
    """One kind of problem, with its first lines."""

    code: str
    severity: str
    title: str
    cure: str
    count: int
    is_open: bool
    lines: Lines
    repair: str  # the repair that ends it, if there is one


@dataclass(frozen=True)
class Problems:
    """All problems by kind, errors first."""

    template: ClassVar[str] = "datasets/_problems.html"
    version: DatasetVersion
    groups: tuple[Group, ...]


def lines_of(session: Session, version: DatasetVersion, *, code: str, page: PageRequest) -> Lines:
    """Return a page of lines with problems of ``code``."""
    found = service.problems(session, version=version, page=page, code=code)
    seen = page.position(int, int)
    shown = tuple(_problem_line(row) for row in found.items)
    left = found.total - len(shown) if seen is None else 0
    severity = CATALOGUE[Code(code)].severity
    return Lines(version, code, severity, shown, found.next, left)


def _problem_line(row: ProblemRow) -> ProblemLine:
    text, start, end = row.excerpt, row.mark_start, row.mark_end
    return ProblemLine(row.line, text[:start], text[start:end], text[end:], row.message)


def problems_of(session: Session, version: DatasetVersion, *, opened: str | None) -> Problems:
    """Return each kind of problem with its first lines; ``opened`` shows more of one kind."""
    counts = {code: n for code, n in (version.by_code or {}).items() if n and code in set(Code)}
    order = sorted(counts, key=lambda code: (CATALOGUE[Code(code)].severity, -counts[code]))
    groups: list[Group] = []
    for place, code in enumerate(order):
        text = CATALOGUE[Code(code)]
        size = _LINES_MORE if code == opened else _LINES_SHOWN
        lines = lines_of(session, version, code=code, page=PageRequest(limit=size))
        is_open = code == opened if opened else place < 2  # noqa: PLR2004  # the two worst kinds
        groups.append(
            Group(
                code,
                text.severity,
                text.title,
                text.cure,
                counts[code],
                is_open,
                lines,
                _REPAIR_OF.get(code, ""),
            )
        )
    return Problems(version, tuple(groups))


@dataclass(frozen=True)
class Share:
    """One row of a bar list: ``share`` is of the largest."""

    label: str
    value: int
    share: float


@dataclass(frozen=True)
class Longest:
    """One of the longest rows."""

    line: int
    characters: int


@dataclass(frozen=True)
class Statistics:
    """Lengths, turns, roles and languages over the rows without errors."""

    template: ClassVar[str] = "datasets/_statistics.html"
    version: DatasetVersion
    lengths: Histogram | None
    by_role: tuple[Histogram, ...]
    groups: tuple[tuple[str, tuple[Share, ...]], ...]
    longest: tuple[Longest, ...]


def statistics_of(version: DatasetVersion) -> Statistics:
    """Return the stored counts as histograms and bars."""
    numbers: Mapping[str, Any] = version.statistics or {}
    unit = "characters"
    roles: Mapping[str, Any] = numbers.get("characters_histogram_by_role", {})
    parts = (histogram(f"A turn of {role}", unit, {"": bins}) for role, bins in roles.items())
    return Statistics(
        version=version,
        lengths=histogram("An example", unit, {"": numbers.get("characters_histogram", [])}),
        by_role=tuple(part for part in parts if part),
        groups=tuple(group for group in _groups(numbers) if group[1]),
        longest=tuple(
            Longest(row["line"], row["characters"]) for row in numbers.get("longest", [])
        ),
    )


def _groups(numbers: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Share, ...]]]:
    yield "Characters by role", _shares(numbers.get("characters_by_role", {}))
    turns = {_turns(low, high): n for low, high, n in numbers.get("turns_histogram", [])[:8]}
    yield "Turns per example", _shares(turns)
    languages = {one["name"]: one["rows"] for one in numbers.get("languages", [])[:8]}
    yield "Languages", _shares(languages)


def _turns(low: int, high: int) -> str:
    return f"{low:,} turns" if low == high else f"{low:,} to {high:,} turns"


def _shares(values: Mapping[str, int]) -> tuple[Share, ...]:
    most = max(values.values(), default=0) or 1
    return tuple(Share(label, value, value / most) for label, value in values.items())


@dataclass(frozen=True)
class RunRow:
    """A run that uses the dataset."""

    id: str
    name: str
    number: int
    status: str
    version: int
    eval_loss: float | None
    exact_match: float | None


def runs_of(session: Session, dataset_id: str, *, limit: int = 20) -> tuple[RunRow, ...]:
    """Return the newest runs with a dataset."""
    statement = (
        select(Run, Job, DatasetVersion.number)
        .join(Job, Job.id == Run.job_id)
        .join(DatasetVersion, DatasetVersion.id == Run.dataset_version_id)
        .where(Run.dataset_id == dataset_id)
        .order_by(Run.created_at.desc())
        .limit(limit)
    )
    return tuple(_run_row(*row) for row in session.execute(statement))


def _run_row(run: Run, job: Job, number: int) -> RunRow:
    summary = run.summary
    return RunRow(
        id=run.id,
        name=run.name,
        number=job.number,
        status=job.status,
        version=number,
        eval_loss=summary.get("eval/loss"),
        exact_match=summary.get("exact_match"),
    )
