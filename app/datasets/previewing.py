"""What repairs would do to a version, shown as differences before anything is done.

Reads at most some MiB of the rows; of a larger version the counts of the check say how much there
is, and rows with stored problems show what would change. Secrets and personal data are hidden in
what is shown. Knows no HTTP, and changes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from sqlalchemy.orm import Session

from app.datasets import repository
from app.datasets.check.lines import LINE_LIMIT
from app.datasets.formats import FORMATS
from app.datasets.formats.personal import hidden
from app.datasets.formats.secrets import masked
from app.datasets.models import DatasetVersion
from app.datasets.problems import Code
from app.datasets.reading import Rows
from app.datasets.repairs import REPAIRS, in_order
from app.datasets.repairs.base import Draft, Known, Reading, Repair
from app.datasets.repairs.passing import Change, Tally, known_of, made, repaired
from app.datasets.table import TableReader
from app.kit.storage import Storage

BUDGET_BYTES = 16 * 2**20
_TRIED = 50  # rows with a problem that are tried, to know whether a repair mends any
_AROUND = 60  # characters shown on both sides of what changes
_LONGEST_SHOWN = 400
_CONTEXT = 20_000  # characters in which secrets are looked for, before it is cut
_PICTURES = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421, 0xFEFF: "⟨BOM⟩"}


@dataclass(frozen=True)
class Difference:
    """A line before and after a repair, cut to what changes; ``after`` is None if it goes."""

    line: int
    before: str
    after: str | None


@dataclass
class Outcome:
    """What one repair does: lines changed and dropped in the rows that were looked at.

    ``total`` counts the whole version; None if that is not known.
    """

    repair: Repair
    changed: int = 0
    dropped: int = 0
    total: int | None = None
    differences: list[Difference] = field(default_factory=list[Difference])


@dataclass
class Preview:
    """What repairs do to a version; ``is_complete`` tells that all of it was looked at."""

    outcomes: list[Outcome]
    rows: int
    is_complete: bool

    @property
    def does_nothing(self) -> bool:
        """Tell whether it is certain that no row would change."""
        return all(outcome.total == 0 for outcome in self.outcomes)


@dataclass(frozen=True)
class Offer:
    """A repair that fits a version; about so many rows, exactly so if ``is_exact``."""

    repair: Repair
    rows: int
    is_exact: bool


def reading_of(version: DatasetVersion) -> Reading:
    """Return how a version's rows are read."""
    rows = (version.examples or 0) + (version.bad_rows or 0)
    return Reading(FORMATS.get(version.format or ""), version.mapping, rows)


@contextmanager
def opened(
    storage: Storage, version: DatasetVersion
) -> Iterator[tuple[IO[bytes], Iterable[Known]]]:
    """Open a version's rows, and what the check noted of each if it did."""
    with ExitStack() as stack:
        stream = stack.enter_context(storage.open(version.rows_key))
        if not storage.exists(version.table_key):
            yield stream, ()
            return
        table = stack.enter_context(storage.open(version.table_key))
        yield stream, known_of(TableReader(table))


def preview(
    session: Session,
    storage: Storage,
    version: DatasetVersion,
    *,
    names: Sequence[str],
    limit: int,
    budget: int = BUDGET_BYTES,
) -> Preview:
    """Return what the repairs of these names do together, with up to ``limit`` differences each."""
    repairs = in_order(names)
    outcomes = {repair.name: Outcome(repair) for repair in repairs}

    def told(change: Change) -> None:
        outcome = outcomes[change.repair]
        if len(outcome.differences) < limit:
            outcome.differences.append(difference(change))

    tally, is_complete = Tally(), True
    with opened(storage, version) as (stream, known):
        reading = reading_of(version)
        for _ in repaired(stream, repairs, reading=reading, known=known, tally=tally, told=told):
            if tally.done > budget:
                is_complete = False
                break
    for outcome in outcomes.values():
        _count(outcome, tally, version, is_complete=is_complete)
    found = Preview(list(outcomes.values()), tally.rows, is_complete)
    if not is_complete:
        for outcome in found.outcomes:
            _look_further(
                session, storage, version, outcome, missing=limit - len(outcome.differences)
            )
    return found


def _count(outcome: Outcome, tally: Tally, version: DatasetVersion, *, is_complete: bool) -> None:
    name = outcome.repair.name
    outcome.changed, outcome.dropped = tally.changed[name], tally.dropped[name]
    if is_complete:
        outcome.total = outcome.changed + outcome.dropped
    elif outcome.repair.counts_rows:
        outcome.total = _problems(version, outcome.repair)
    elif not _problems(version, outcome.repair):
        outcome.total = 0


def _problems(version: DatasetVersion, repair: Repair) -> int:
    by_code = version.by_code or {}
    return sum(int(by_code.get(code.value, 0)) for code in repair.codes)


def _look_further(
    session: Session, storage: Storage, version: DatasetVersion, outcome: Outcome, *, missing: int
) -> None:
    """Show differences in rows behind the budget: those with problems that a repair ends."""
    if missing <= 0 or outcome.total == 0:
        return
    after = max((shown.line for shown in outcome.differences), default=0)
    changes = _changes(session, storage, version, outcome.repair, after=after)
    outcome.differences.extend(map(difference, islice(changes, missing)))


def _changes(
    session: Session, storage: Storage, version: DatasetVersion, repair: Repair, *, after: int = 0
) -> Iterator[Change]:
    """Yield what a repair does by itself to the first rows with a problem that it may end."""
    if not storage.exists(version.table_key):
        return
    lines = {
        line
        for code in repair.codes
        if (version.by_code or {}).get(code.value)
        for line in repository.lines_with(
            session, version.id, code=code.value, first=after + 1, limit=_TRIED
        )
    }
    reading = reading_of(version)
    with Rows.open(storage, version) as rows:
        for line in sorted(lines)[:_TRIED]:
            draft = _draft(rows, reading, line)
            if draft is None:
                continue
            if repair.codes == (Code.DUPLICATE_ROW,):
                yield Change(repair.name, line, draft.data or b"", None)
            elif change := made(repair, repair.begin(0), draft):
                yield change


def _draft(rows: Rows, reading: Reading, line: int) -> Draft | None:
    found = rows.from_line(line, 1)
    if not found or found[0].line != line:
        return None
    place = found[0]
    data = rows.data(place) if place.size <= LINE_LIMIT else None
    return Draft(reading, data, line=line, is_last=place.place == len(rows) - 1)


def offers(session: Session, storage: Storage, version: DatasetVersion) -> list[Offer]:
    """Return the repairs that do something to a checked version, by what its check counted."""
    found: list[Offer] = []
    for repair in REPAIRS.values():
        count = _problems(version, repair)
        if repair.name == "bad_rows":
            found.append(Offer(repair, version.bad_rows or 0, is_exact=True))
        elif repair.counts_rows:
            found.append(Offer(repair, count, is_exact=True))
        elif count:
            tried = list(_changes(session, storage, version, repair))
            if repair.name == "partial_line":
                found.append(Offer(repair, _partial(storage, version), is_exact=True))
            elif tried:
                found.append(Offer(repair, max(count, len(tried)), is_exact=False))
    return [offer for offer in found if offer.rows]


def _partial(storage: Storage, version: DatasetVersion) -> int:
    """Return 1 if the last row breaks off, else 0."""
    if not storage.exists(version.table_key):
        return 0
    repair = REPAIRS["partial_line"]
    with Rows.open(storage, version) as rows:
        last = rows.place(len(rows) - 1) if len(rows) else None
        draft = _draft(rows, reading_of(version), last.line) if last else None
        return int(draft is not None and made(repair, repair.begin(0), draft) is not None)


def difference(change: Change) -> Difference:
    """Return a change as it is shown: what changes with a little around it, secrets hidden."""
    before = change.before.decode("utf-8", "replace")
    if change.after is None:
        return Difference(change.line, _cut(before, 0, _AROUND), None)
    after = change.after.decode("utf-8", "replace")
    start = _common(before, after)
    rest = min(len(before), len(after)) - start
    end = _common(before[::-1][:rest], after[::-1][:rest])
    return Difference(
        change.line,
        _cut(before, start, len(before) - end),
        _cut(after, start, len(after) - end),
    )


def _common(one: str, other: str) -> int:
    """Return how many characters two texts begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _cut(text: str, start: int, end: int) -> str:
    """Return ``text`` around a spot, with secrets and personal data hidden."""
    base = max(0, start - _CONTEXT)
    safe = hidden(masked(text[base : end + _CONTEXT]))
    low = max(0, start - base - _AROUND)
    high = min(len(safe), max(end - base, start - base) + _AROUND, low + _LONGEST_SHOWN)
    head = "…" if base + low else ""
    tail = "…" if base + high < len(text) else ""
    return head + safe[low:high].translate(_PICTURES) + tail
