"""Every problem of every line of an uploaded file. No database, no HTTP.

Never raises for bad data and never stops at a bad row. The file is read once from start to end;
rows that may repeat an earlier one are then read again to be compared. Memory is constant but for
84 bytes a row (copies, near copies) and the numbers of bad lines. What the codes mean stands in
``problems``; what a single row shows by itself in ``formats``.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec
import numpy as np
import xxhash

from app.datasets import formats
from app.datasets.excerpts import Excerpts
from app.datasets.formats.base import DatasetFormat, Finding, Turn, shortened
from app.datasets.formats.messages import MESSAGES
from app.datasets.formats.secrets import masked
from app.datasets.formats.text import may_hold_controls, text_findings
from app.datasets.lines import BOM, LINE_LIMIT, Line, lines
from app.datasets.problems import CATALOGUE, DETAIL_PER_CODE, Code, Problem, Severity
from app.datasets.rows import parse
from app.datasets.signatures import HEAD_BYTES, Foreign, first_rows, foreign_file, is_empty
from app.datasets.similarity import Repeat, Repeats
from app.datasets.statistics import Statistics
from app.datasets.table import HAS_ERROR, HAS_WARNING, LARGEST_SIZE, RECORD

_PROGRESS_LINES = 2000
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass
class Report:
    """The outcome: true counts, and the numbers of the lines with errors."""

    format: str | None = None
    examples: int = 0
    by_code: Counter[Code] = field(default_factory=Counter[Code])
    errors: int = 0
    warnings: int = 0
    bad_lines: "array[int]" = field(default_factory=lambda: array("Q"))
    statistics: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def status(self) -> str:
        """Return ``invalid`` if there is an error, else ``ready``."""
        return "invalid" if self.errors else "ready"


Emit = Callable[[Problem], None]
Progress = Callable[[int, int], None]


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
    """Check a seekable file; ``emit`` gets at most 10,000 problems of each code.

    They come by line, but for repeats of other rows, which come last, by line. ``progress`` hears
    now and then how many bytes are read and how many problems were found. ``table``, open for
    reading and writing, gets a record of each row (see ``table``).
    """
    del lines, processes
    return _Check(stream, emit, progress, table, mapping).run(declared)


class _Check:
    """The state of one pass."""

    def __init__(  # noqa: PLR0917
        self,
        stream: IO[bytes],
        emit: Emit,
        progress: Progress,
        table: IO[bytes] | None,
        mapping: Mapping[str, str] | None,
    ) -> None:
        self._mapping = mapping
        self._table = table
        self._stream, self._emit, self._progress = stream, emit, progress
        self._report = Report()
        self._repeats = Repeats()
        self._statistics = Statistics()
        self._format: DatasetFormat = MESSAGES
        self._rows = 0

    def run(self, declared: str | None) -> Report:
        head = self._stream.read(HEAD_BYTES)
        self._stream.seek(0)
        if is_empty(head):
            return self._end(Code.EMPTY_FILE, "there is no row in this file")
        foreign = foreign_file(head)
        if foreign:
            return self._unknown(foreign)
        self._format = (
            formats.detect(
                [formats.mapped(row, self._mapping) for row in first_rows(head)], declared
            )
            or MESSAGES
        )
        for line in lines(self._stream):
            self._line(line)
            if line.number % _PROGRESS_LINES == 0:
                done = line.offset + line.size
                self._progress(done, self._report.errors + self._report.warnings)
        if not self._rows:
            return self._end(Code.EMPTY_FILE, "there is no row in this file")
        for repeat in self._repeats.found(self._read_turns):
            self._add_repeat(repeat)
        self._report.format = self._format.name
        self._report.statistics = self._statistics.result()
        return self._report

    def _end(self, code: Code, message: str) -> Report:
        self._add(1, Finding(code, message), None)
        self._report.statistics = self._statistics.result()
        return self._report

    def _unknown(self, foreign: Foreign) -> Report:
        message = f"this is {foreign.what}"
        finding = Finding(Code.UNKNOWN_FORMAT, message)
        self._add(foreign.line, finding, Excerpts(foreign.excerpt).at(0, foreign.marked))
        self._report.bad_lines.append(foreign.line)
        self._report.statistics = self._statistics.result()
        return self._report

    def _add(
        self, line: int, finding: Finding, excerpt: tuple[str, int, int] | Excerpts | None
    ) -> None:
        """Count a finding, and show it while there are not too many of its code."""
        report, code = self._report, finding.code
        report.by_code[code] += 1
        if CATALOGUE[code].severity is Severity.ERROR:
            report.errors += 1
        else:
            report.warnings += 1
        if report.by_code[code] > DETAIL_PER_CODE:
            return
        if isinstance(excerpt, Excerpts):
            excerpt = excerpt.of(formats.renamed(finding, self._mapping))
        self._emit(Problem(line, code, _sentence(finding.message), *(excerpt or ("", 0, 0))))

    def _line(self, line: Line) -> None:
        data, size = line.data, line.size
        if line.number == 1 and data is not None and data.startswith(BOM):
            message = "the file begins with the bytes EF BB BF"
            self._add(1, Finding(Code.BOM, message), None)
            data, size = data[len(BOM) :], size - len(BOM)
            if not data and not line.ending:
                return
        if data is not None and not data.strip(b" \t\r"):
            self._add(line.number, Finding(Code.BLANK_LINE, "there is nothing on this line"), None)
            return
        self._rows += 1
        if data is None:
            self._too_long(line)
        else:
            self._row(line.number, line.offset + line.size - size, data)

    def _too_long(self, line: Line) -> None:
        limit = f"{LINE_LIMIT / 2**20:,.0f} MiB"
        message = f"the row has {line.size:,} bytes, more than {limit}"
        self._add(line.number, Finding(Code.LINE_TOO_LONG, message), None)
        self._report.bad_lines.append(line.number)
        self._note(line.number, line.offset, line.size, HAS_ERROR, bytes(16))

    def _note(  # noqa: PLR0917
        self, number: int, offset: int, size: int, flags: int, digest: bytes
    ) -> None:
        if self._table is not None:
            record = (number, offset, min(size, LARGEST_SIZE), flags, array("Q", digest))
            self._table.write(np.array([record], dtype=RECORD).tobytes())

    def _row(self, number: int, offset: int, data: bytes) -> None:
        row, broken = parse(data)
        for fault in broken:
            excerpt = Excerpts(fault.text).at(fault.start, fault.end)
            self._add(number, Finding(fault.code, fault.message), excerpt)
        found: list[Finding] = []
        if type(row) is dict:
            row = dict(formats.mapped(row, self._mapping))
            found = _findings(row, data, self._format)
        elif not any(fault.code is Code.INVALID_JSON for fault in broken):
            found = [Finding(Code.NOT_AN_OBJECT, f"the row is {shortened(row)}")]
        if found:
            excerpts = Excerpts(data.decode(errors="replace"))
            for finding in found:
                self._add(number, finding, excerpts)
        bad = bool(broken) or any(
            CATALOGUE[finding.code].severity is Severity.ERROR for finding in found
        )
        flags = HAS_ERROR if bad else HAS_WARNING if found else 0
        digest = bytes(16)
        if type(row) is dict:
            self._remember(number, offset, data, row, bad=bad)
            digest = xxhash.xxh3_128_digest(_canonical(row, data))
        self._note(number, offset, len(data), flags, digest)
        if bad:
            self._report.bad_lines.append(number)
        else:
            self._report.examples += 1

    def _remember(
        self, number: int, offset: int, data: bytes, row: dict[str, Any], *, bad: bool
    ) -> None:
        turns = self._format.turns(row)
        if not bad:
            self._statistics.add(turns)
        self._repeats.add((number, offset, len(data)), _canonical(row, data), turns)

    def _read(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        return self._stream.read(size)

    def _read_turns(self, offset: int, size: int) -> Sequence[Turn]:
        row, _ = parse(self._read(offset, size))
        return self._format.turns(formats.mapped(row, self._mapping))

    def _add_repeat(self, repeat: Repeat) -> None:
        code = Code.DUPLICATE_ROW if repeat.exact else Code.NEAR_DUPLICATE
        what = "is a copy of" if repeat.exact else "reads almost as"
        finding = Finding(code, f"the row {what} line {repeat.of:,}")
        excerpt = None
        if self._report.by_code[code] < DETAIL_PER_CODE:
            text = self._read(repeat.offset, repeat.size).decode(errors="replace")
            excerpt = Excerpts(text)
        self._add(repeat.line, finding, excerpt)


def _findings(row: dict[str, Any], data: bytes, taken: DatasetFormat) -> list[Finding]:
    """Return all faults of a row that is an object."""
    found = formats.findings(row, taken)
    if any(finding.code is Code.MIXED_FORMATS for finding in found):
        return found
    return [*found, *text_findings(row, controls=may_hold_controls(data))]


def _canonical(row: dict[str, Any], data: bytes) -> bytes:
    """Return the same bytes for the same row, whatever the order of its keys."""
    try:
        return _encode(row)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return data


def _sentence(message: str) -> str:
    """Return a message as a sentence, without the keys that it may quote."""
    return masked(message[:1].upper() + message[1:]) + "."
