"""The first stage of a check: every problem that the rows of a file show. No database, no HTTP.

Never raises for bad data and never stops at a bad row. Rows are one JSON object a line; what a
container says of them comes as ``lines`` (see ``intake``). The file is read once, by
several processes if it is large (``parallel``), and the parts are put together here in order.
Memory is constant but for 4 bytes a row and the numbers of bad lines. Rows that are nearly alike
are the second stage's (``stages``).
"""

import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from app.datasets import formats
from app.datasets.alike.copies import copies
from app.datasets.check.checking import Part, Setup, problem
from app.datasets.check.excerpts import Excerpts
from app.datasets.check.lines import BOM, LINE_LIMIT, blocks
from app.datasets.check.parallel import parts_of
from app.datasets.check.rows import parse
from app.datasets.formats.base import Finding
from app.datasets.formats.messages import MESSAGES
from app.datasets.problems import CATALOGUE, DETAIL_PER_CODE, Code, Problem, Severity
from app.datasets.statistics import Statistics
from app.datasets.table import HAS_ERROR, HAS_WARNING, RECORD, TableReader, mark

_SAMPLED_ROWS, _SAMPLED_BYTES = 200, 32 * 2**20  # to tell the format from
SHOWN_BYTES = 2**11  # of a copy: more than an excerpt shows, and what may stand at its end
_MARKED_AT_ONCE = 1 << 16
Emit = Callable[[Problem], None]
Progress = Callable[[int, int], None]


@dataclass
class Report:
    """The outcome: true counts, and the numbers of the lines with errors."""

    format: str | None = None
    examples: int = 0
    by_code: Counter[Code] = field(default_factory=Counter[Code])
    bad_lines: "array[int]" = field(default_factory=lambda: array("Q"))
    statistics: dict[str, Any] = field(default_factory=lambda: Statistics().result())

    @property
    def errors(self) -> int:
        """Return how many problems make a row unusable."""
        return self._count(Severity.ERROR)

    @property
    def warnings(self) -> int:
        """Return how many problems are for the user to judge."""
        return self._count(Severity.WARNING)

    def _count(self, severity: Severity) -> int:
        return sum(n for code, n in self.by_code.items() if CATALOGUE[code].severity is severity)

    @property
    def problems(self) -> int:
        """Return how many problems there are."""
        return self.by_code.total()

    @property
    def full(self) -> frozenset[Code]:
        """Return the codes of which enough is shown; more is only counted."""
        return frozenset(code for code, n in self.by_code.items() if n >= DETAIL_PER_CODE)

    @property
    def status(self) -> str:
        """Return ``invalid`` if there is an error, else ``ready``."""
        return "invalid" if self.errors else "ready"

    def add(self, found: Problem, emit: Emit) -> None:
        """Count a problem, and emit it while there are not too many of its code."""
        if self.by_code[found.code] < DETAIL_PER_CODE:
            emit(found)
        self.by_code[found.code] += 1


def validate(  # a file, what is said of it, and where its rows are noted
    stream: IO[bytes],
    *,
    emit: Emit,
    progress: Progress = lambda _bytes, _problems: None,
    declared: str | None = None,
    mapping: Mapping[str, str] | None = None,
    lines: IO[bytes] | None = None,
    table: IO[bytes] | None = None,
    processes: int = 1,
) -> Report:
    """Check seekable rows; ``emit`` gets at most 10,000 problems of each code.

    They come by line, but for copies of other rows, which come last, by line. ``progress`` hears
    now and then how many bytes are read and how many problems were found. ``lines`` has a u64 for
    each line: the number it has in the file as uploaded. ``table``, open for reading and writing,
    gets a record of each row (see ``table``).
    """
    setup = Setup(
        format=_format(stream, declared, mapping),
        mapping=dict(mapping) if mapping else None,
        converted=lines is not None,
    )
    if table is not None:
        return _Pass(stream, setup, emit, lines=lines, table=table).run(progress, processes)
    with tempfile.TemporaryFile() as kept:
        return _Pass(stream, setup, emit, lines=lines, table=kept).run(progress, processes)


def _format(stream: IO[bytes], declared: str | None, mapping: Mapping[str, str] | None) -> str:
    rows = list(islice(_first_rows(stream), _SAMPLED_ROWS))
    found = formats.detect([formats.mapped(row, mapping) for row in rows], declared)
    return (found or MESSAGES).name


def _first_rows(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    stream.seek(0)
    for block in blocks(stream):
        if block.offset > _SAMPLED_BYTES:
            return
        for line in (block.data or b"").removeprefix(BOM).split(b"\n"):
            row, _ = parse(line) if len(line) <= LINE_LIMIT else (None, None)
            if type(row) is dict:
                yield row


class _Pass:
    """The state of one pass."""

    def __init__(
        self,
        stream: IO[bytes],
        setup: Setup,
        emit: Emit,
        *,
        lines: IO[bytes] | None,
        table: IO[bytes],
    ) -> None:
        self._stream, self._setup, self._emit = stream, setup, emit
        self._numbers, self._table = lines, table
        self._report = Report(format=setup.format)
        self._statistics = Statistics()
        self._lines, self._rows = 0, 0

    def run(self, progress: Progress, processes: int) -> Report:
        report = self._report
        parts = parts_of(self._stream, self._setup, processes=processes, full=lambda: report.full)
        with closing(parts):
            for part in parts:
                self._take(part)
                progress(part.end, report.problems)
        if not self._rows:
            report.format = None
            empty = Finding(Code.EMPTY_FILE, "there is no row in this file")
            report.add(problem(1, empty, None), self._emit)
        self._find_copies()
        report.statistics = self._statistics.result()
        return report

    def _take(self, part: Part) -> None:
        """Put a part behind those before it."""
        report, lines = self._report, self._numbered(part.lines)
        for found in part.problems:
            if report.by_code[found.code] < DETAIL_PER_CODE:
                self._emit(replace(found, line=int(lines[found.line])))
                report.by_code[found.code] += 1
                part.by_code[found.code] -= 1
        report.by_code.update(part.by_code)
        records = np.frombuffer(bytearray(part.records), dtype=RECORD)
        records["line"] = lines[records["line"]]
        is_bad = records["flags"] & HAS_ERROR != 0
        report.bad_lines.frombytes(records["line"][is_bad].astype("=u8").tobytes())
        report.examples += len(records) - int(is_bad.sum())
        self._rows += len(records)
        self._table.write(records.tobytes())
        self._statistics.add(part.tally, lines)

    def _numbered(self, count: int) -> npt.NDArray[np.uint64]:
        """Return the numbers of the next lines, as they are in the file as uploaded."""
        first, self._lines = self._lines, self._lines + count
        if self._numbers is None:
            return np.arange(first + 1, first + 1 + count, dtype=np.uint64)
        self._numbers.seek(8 * first)
        return np.frombuffer(self._numbers.read(8 * count), dtype="<u8")

    def _find_copies(self) -> None:
        """Say which rows are copies of an earlier one."""
        table = TableReader(self._table)
        places: array[int] = array("q")
        for place, first in copies(table):
            places.append(place)
            if self._report.by_code[Code.DUPLICATE_ROW] < DETAIL_PER_CODE:
                self._show_copy(table, place, first)
            else:
                self._report.by_code[Code.DUPLICATE_ROW] += 1
            if len(places) == _MARKED_AT_ONCE:
                self._mark(places)
                del places[:]
        self._mark(places)

    def _mark(self, places: "array[int]") -> None:
        mark(self._table, np.frombuffer(places.tobytes(), dtype=np.int64), HAS_WARNING)

    def _show_copy(self, table: TableReader, place: int, first: int) -> None:
        row, line = table.row(place), table.row(first).line
        finding = Finding(Code.DUPLICATE_ROW, f"the row is a copy of line {line:,}")
        self._stream.seek(row.offset)
        text = self._stream.read(min(row.size, SHOWN_BYTES)).decode(errors="replace")
        self._report.add(problem(row.line, finding, Excerpts(text).of(finding)), self._emit)
