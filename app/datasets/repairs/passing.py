"""One pass of a version's rows through repairs, in constant memory. Pure: knows only streams.

Rows come out in their order; what no repair touches comes out byte for byte.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import IO

import numpy as np

from app.datasets.check.lines import BOM, Line, lines
from app.datasets.repairs.base import NO_HASH, Draft, Known, Reading, Repair
from app.datasets.table import TableReader

_CHUNK = 2**20
_BLANKS = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Change:
    """What one repair did to one line; ``after`` is None where it dropped it."""

    repair: str
    line: int
    before: bytes
    after: bytes | None


@dataclass
class Tally:
    """How many lines each repair has changed and dropped, and what was left out besides."""

    changed: Counter[str] = field(default_factory=Counter[str])
    dropped: Counter[str] = field(default_factory=Counter[str])
    unreadable: int = 0
    rows: int = 0
    kept: int = 0
    done: int = 0  # bytes of the rows that have been looked at

    def add(self, change: Change) -> None:
        """Count a change."""
        counts = self.dropped if change.after is None else self.changed
        counts[change.repair] += 1


def known_of(table: TableReader) -> Iterator[Known]:
    """Yield what the check noted of each row, in order."""
    size = len(NO_HASH)
    for _, records in table.blocks():
        hashes = np.ascontiguousarray(records["hash"]).tobytes()
        places = range(0, len(hashes), size)
        for line, flags, at in zip(
            records["line"].tolist(), records["flags"].tolist(), places, strict=True
        ):
            yield Known(line, flags, hashes[at : at + size])


def repaired(
    stream: IO[bytes],
    repairs: Sequence[Repair],
    *,
    reading: Reading,
    known: Iterable[Known] = (),
    tally: Tally,
    told: Callable[[Change], None] = lambda _change: None,
) -> Iterator[bytes]:
    """Yield the bytes of the repaired file. ``stream`` is seekable and stands at its start.

    ``known`` is what the check noted of each row, in order. ``told`` hears of every change.
    """
    steps = [(repair, repair.begin(reading.rows)) for repair in repairs]
    last = _last_byte(stream)
    notes = chain(known, repeat(None))
    for line in lines(stream):
        draft = _draft(line, reading, notes, is_last=line.offset <= last < line.offset + line.size)
        tally.done = line.offset + line.size
        tally.rows += not draft.is_blank
        if draft.is_unreadable:
            tally.unreadable += 1
            continue
        for repair, step in steps:
            change = made(repair, step, draft)
            if change is not None:
                tally.add(change)
                told(change)
            if draft.is_dropped:
                break
        yield from _written(stream, line, draft)
        tally.kept += not draft.is_dropped and not draft.is_blank


def _draft(line: Line, reading: Reading, notes: Iterator[Known | None], *, is_last: bool) -> Draft:
    data = line.data
    has_bom = line.number == 1 and data is not None and data.startswith(BOM)
    data = data.removeprefix(BOM) if has_bom and data is not None else data
    is_row = data is None or bool(data.strip(_BLANKS))
    known = next(notes) if is_row else None
    number = known.line if known else line.number
    return Draft(reading, data, line=number, known=known, has_bom=has_bom, is_last=is_last)


def made(repair: Repair, step: Callable[[Draft], None], draft: Draft) -> Change | None:
    """Make one repair of one line; return what it changed, or None."""
    data, has_bom = draft.data, draft.has_bom
    step(draft)
    if draft.is_dropped:
        return Change(repair.name, draft.line, data or b"", None)
    if draft.data == data and draft.has_bom == has_bom:
        return None
    before = (BOM if has_bom else b"") + (data or b"")
    return Change(
        repair.name, draft.line, before, (BOM if draft.has_bom else b"") + (draft.data or b"")
    )


def _written(stream: IO[bytes], line: Line, draft: Draft) -> Iterator[bytes]:
    if draft.has_bom:
        yield BOM
    if draft.is_dropped:
        return
    if draft.data is None:
        yield from _copied(stream, line.offset, line.size + len(line.ending))
    else:
        yield draft.data + line.ending


def _copied(stream: IO[bytes], offset: int, size: int) -> Iterator[bytes]:
    """Yield a line that was too long to be held; the stream stands afterwards where it stood.

    The last line of a file may lack the ending that is asked for.
    """
    here = stream.tell()
    stream.seek(offset)
    while size > 0 and (chunk := stream.read(min(size, _CHUNK))):
        size -= len(chunk)
        yield chunk
    stream.seek(here)


def _last_byte(stream: IO[bytes]) -> int:
    """Return where the last byte stands that is not blank, or -1; the stream stays where it is."""
    here = stream.tell()
    end = stream.seek(0, 2)
    while end > 0:
        start = max(0, end - _CHUNK)
        stream.seek(start)
        rest = stream.read(end - start).rstrip(_BLANKS)
        if rest:
            stream.seek(here)
            return start + len(rest) - 1
        end = start
    stream.seek(here)
    return -1
