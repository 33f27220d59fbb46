"""Rows to look at: from a line on, those with a kind of problem, those with a text in them.

Row 3,000,000 is found by one seek. A search reads the rows' bytes in order, and stops after a
budget, telling where to go on. Knows no HTTP; filters read the stored problems.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import repository
from app.datasets.models import DatasetVersion
from app.datasets.problems import Code
from app.datasets.reading import Example, Rows
from app.datasets.table import RowPlace
from app.errors import Invalid
from app.kit.storage import Storage

SHORTEST_SEARCH = 2
_BUDGET_BYTES = 256 * 2**20  # read by one search, a fraction of a second
_BLOCK_ROWS = 4096
_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Found:
    """Rows, each with its number from 1, and the row to go on from; None at the end."""

    items: list[tuple[int, Example]]
    next: RowPlace | None
    ended_early: bool = False  # a search that spent its budget before it had enough

    @property
    def next_row(self) -> int | None:
        """Return the number, from 1, of the row to go on from."""
        return None if self.next is None else self.next.place + 1

    @property
    def next_line(self) -> int | None:
        """Return the line to go on from; None where it begins among the rows shown."""
        last = self.items[-1][1].line if self.items else 0
        return None if self.next is None or self.next.line <= last else self.next.line


@dataclass(frozen=True)
class Start:
    """Where to begin: at a row's number, from 1, or at the first row from a line on."""

    line: int = 1
    row: int | None = None

    def place(self, rows: Rows) -> int:
        """Return the place of the first row meant."""
        return rows.table.place_of_line(self.line) if self.row is None else self.row - 1


def browse(  # a place and two filters, each named at the call
    session: Session,
    storage: Storage,
    version: DatasetVersion,
    *,
    start: Start,
    limit: int,
    code: str | None = None,
    q: str | None = None,
) -> Found:
    """Return up to ``limit`` rows from ``start`` on, of one problem code or with a text.

    ``Conflict`` while the rows are not known, ``Invalid`` for a code there is not or a text too
    short to search for.
    """
    if code and q:
        raise Invalid.field("q", "search, or choose a kind of problem: not both at once")
    with Rows.open(storage, version) as rows:
        first = start.place(rows)
        if code:
            return _with_code(session, rows, version, code=code, first=first, limit=limit)
        if q:
            return _with_text(rows, q, first=first, limit=limit)
        return _page(rows, rows.table.rows(first, limit + 1), limit)


def _page(rows: Rows, places: list[RowPlace], limit: int, *, rest: RowPlace | None = None) -> Found:
    """Return the first ``limit`` rows; what comes after them, or ``rest``, is where to go on."""
    following = places[limit] if len(places) > limit else rest
    shown = [(place.place + 1, rows.example(place)) for place in places[:limit]]
    return Found(shown, following, ended_early=rest is not None and following is rest)


def _with_code(  # a place and a filter, each named at the call
    session: Session, rows: Rows, version: DatasetVersion, *, code: str, first: int, limit: int
) -> Found:
    if code not in set(Code):
        raise Invalid.field("code", "there is no such code; docs/problems.md lists them")
    if first >= len(rows):
        return Found([], None)
    from_line = rows.place(first).line
    lines = repository.lines_with(session, version.id, code=code, first=from_line, limit=limit + 1)
    found: list[RowPlace] = []
    for line in lines:
        # A blank line has a problem and no row; several rows of a list may share a line.
        near = rows.from_line(line, limit + 1)
        found += [row for row in near if row.line == line and row.flags and row.place >= first]
    return _page(rows, found, limit)


def _with_text(rows: Rows, q: str, *, first: int, limit: int) -> Found:
    if len(q.strip()) < SHORTEST_SEARCH:
        raise Invalid.field("q", f"search for at least {SHORTEST_SEARCH} characters")
    needles = spellings(q.strip())
    found: list[RowPlace] = []
    read = 0
    for block in _blocks(rows, first):
        if read > _BUDGET_BYTES:
            return _page(rows, found, limit, rest=block[0])
        read += block[-1].offset + block[-1].size - block[0].offset
        found += _holding(rows, block, needles)
        if len(found) > limit:
            break
    return _page(rows, found, limit)


def spellings(text: str) -> tuple[bytes, ...]:
    """Return how JSON may spell ``text`` within a string, in lower case as far as it is ASCII."""
    as_it_stands = json.dumps(text, ensure_ascii=False)[1:-1]
    escaped = json.dumps(text)[1:-1]
    return tuple({spelling.encode().lower() for spelling in (as_it_stands, escaped)})


def _blocks(rows: Rows, first: int) -> Iterator[list[RowPlace]]:
    """Yield rows that lie side by side, a few MiB at once."""
    while first < len(rows):
        block = rows.table.rows(first, _BLOCK_ROWS)
        start = block[0].offset
        fits = sum(place.offset + place.size - start <= _BLOCK_BYTES for place in block)
        yield block[: max(1, fits)]
        first += max(1, fits)


def _holding(rows: Rows, block: list[RowPlace], needles: tuple[bytes, ...]) -> list[RowPlace]:
    start = block[0].offset
    data = rows.read(start, block[-1].offset + block[-1].size - start).lower()
    offsets = np.array([place.offset - start for place in block])
    hits: set[int] = set()
    for needle in needles:
        at = data.find(needle)
        while at >= 0:
            place = int(np.searchsorted(offsets, at, side="right")) - 1
            end = int(offsets[place]) + block[place].size
            if at + len(needle) <= end:
                hits.add(place)
            at = data.find(needle, max(end, at + 1))
    return [block[place] for place in sorted(hits)]
