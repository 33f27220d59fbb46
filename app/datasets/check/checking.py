"""Every problem of a part of a file, line by line. Pure.

Most rows are only glanced at, a block at a time (``glance``, ``signs``); a row in which something
may be wrong is looked at in full (``formats``). Both say the same. What a part gives is plain data,
so that another process may check it; its lines count from 0, and whoever puts the parts together
knows how many lines stand before.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from app.datasets import formats
from app.datasets.check.excerpts import Excerpts
from app.datasets.check.glance import Bytes, Glancing, Numbers, hash_of
from app.datasets.check.lines import BOM, LINE_LIMIT, View
from app.datasets.check.rows import Broken, parse
from app.datasets.check.signs import rows_with_signs
from app.datasets.containers.base import fault_of
from app.datasets.containers.jsonl import too_long
from app.datasets.formats.base import DatasetFormat, Finding, Findings, Row, shortened
from app.datasets.formats.messages import MESSAGES
from app.datasets.formats.secrets import masked
from app.datasets.formats.text import may_hold_controls, text_findings
from app.datasets.problems import CATALOGUE, DETAIL_PER_CODE, Code, Problem, Severity
from app.datasets.statistics import Counting, Tally
from app.datasets.table import HAS_ERROR, HAS_WARNING, LARGEST_SIZE, RECORD

_NO_HASH = bytes(16)
_NO_ROW = 255  # instead of a row's flags: the line is blank
_BLANKS = b" \t\r"
_NEWLINE, _RETURN = b"\n\r"


class Setup(msgspec.Struct):
    """What is known of a file before its lines are checked."""

    format: str | None
    mapping: dict[str, str] | None
    converted: bool  # rows that could not be read from their container are marked


class Part(msgspec.Struct):
    """What the check of some lines found. ``records`` are the bytes of a table."""

    lines: int
    end: int  # bytes, from the start of the file
    records: bytes
    problems: list[Problem]
    by_code: dict[Code, int]
    tally: Tally


class Checker:
    """Checks blocks of lines; ``part`` then tells what was found in all of them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._format: DatasetFormat | None = formats.FORMATS.get(setup.format or "")
        self._can_glance = self._format is MESSAGES and not setup.mapping
        self._signs = rows_with_signs
        self.full: frozenset[Code] = frozenset()  # codes of which enough is shown
        self._begin()

    def _begin(self) -> None:
        self._line, self._end = 0, 0
        self._records: list[bytes] = []
        self._problems: list[Problem] = []
        self._by_code: Counter[Code] = Counter()
        self._counting = Counting()

    def part(self) -> Part:
        """Return what was found since the last call."""
        made = Part(
            self._line,
            self._end,
            b"".join(self._records),
            self._problems,
            dict(self._by_code),
            self._counting.result(),
        )
        self._begin()
        return made

    def take(self, view: View) -> None:
        """Check the lines of a block."""
        self._end = view.offset + view.size
        if view.data is None:
            self._skip(view.offset, view.size)
            return
        data, offset = view.data, view.offset
        if offset == 0 and bytes(data[: len(BOM)]) == BOM:
            message = "the file begins with the bytes EF BB BF"
            self._add(0, Finding(Code.BOM, message), None)
            data, offset = data[len(BOM) :], len(BOM)
            if not data:
                self._line += 1
                return
        self._lines(data, offset)

    def _skip(self, offset: int, size: int) -> None:
        """Take a line that was too long to be read."""
        self._add(self._line, _too_long(size), None)
        row = (self._line, offset, min(size, LARGEST_SIZE), HAS_ERROR, (0, 0))
        self._records.append(np.array([row], dtype=RECORD).tobytes())
        self._line += 1

    def _lines(self, data: memoryview, offset: int) -> None:
        starts, ends = _bounds(data)
        signs = self._signs(data, starts)
        flags = np.zeros(len(starts), dtype=np.uint32)
        rest, hashes = self._glanced(data, starts, ends, signs)
        for at in rest:
            line = bytes(data[starts[at] : ends[at]])
            hashed, flags[at] = self._look(self._line + at, line, has_signs=at in signs)
            hashes[at] = np.frombuffer(hashed, dtype=np.uint8)
        made = np.empty(len(starts), dtype=RECORD)
        made["line"] = np.arange(self._line, self._line + len(starts))
        made["offset"], made["size"] = starts + offset, ends - starts
        made["flags"], made["hash"] = flags, hashes.view("<u8")
        self._records.append(made[flags != _NO_ROW].tobytes())
        self._line += len(starts)

    def _glanced(
        self, data: memoryview, starts: Numbers, ends: Numbers, signs: frozenset[int]
    ) -> tuple[list[int], Bytes]:
        """Count the rows that need no other look; return the places of the others, and hashes."""
        if not self._can_glance or (ends - starts).max() > LINE_LIMIT:
            return list(range(len(starts))), np.zeros((len(starts), 16), dtype=np.uint8)
        told = [at for at in signs if _tells(bytes(data[starts[at] : ends[at]]))]
        glancing = Glancing(data, starts, ends)
        glancing.look()
        seen = glancing.seen(told)
        good = np.flatnonzero(seen.is_good)
        self._counting.add_all(self._line + good, seen.turns, seen.codes, seen.lengths)
        self._counting.saw_all(len(good), seen.columns)
        return np.flatnonzero(~seen.is_good).tolist(), seen.hashes

    def _look(self, line: int, data: bytes, *, has_signs: bool) -> tuple[bytes, int]:
        """Check a line in full; return its row's hash and flags."""
        if not data.strip(_BLANKS):
            self._add(line, Finding(Code.BLANK_LINE, "there is nothing on this line"), None)
            return _NO_HASH, _NO_ROW
        if len(data) > LINE_LIMIT:
            self._add(line, _too_long(len(data)), None)
            return _NO_HASH, HAS_ERROR
        row, broken = self._parsed(data)
        for fault in broken:
            excerpt = Excerpts(fault.text).at(fault.start, fault.end)
            self._add(line, Finding(fault.code, fault.message), excerpt)
        found = self._found(row, broken, data, has_signs=has_signs)
        self._show(line, found, data)
        is_bad = bool(broken) or any(map(is_error, found.counts))
        hashed = (
            _NO_HASH if type(row) is not dict else self._remember(line, row, data, is_bad=is_bad)
        )
        return hashed, HAS_ERROR if is_bad else HAS_WARNING if found else 0

    def _parsed(self, data: bytes) -> tuple[Any, list[Broken]]:
        fault = fault_of(data) if self._setup.converted else None
        if fault is None:
            return parse(data)
        return None, [Broken(fault.code, fault.message, fault.text, fault.start, fault.end)]

    def _found(self, row: Any, broken: list[Broken], data: bytes, *, has_signs: bool) -> Findings:
        """Return every fault of a parsed row, and of each code what may still be shown."""
        found = Findings(self._room)
        if type(row) is not dict:
            if row is not None or not broken:
                found.add(Code.NOT_AN_OBJECT, lambda: f"the row is {shortened(row)}")
            return found
        mapped = formats.mapped(row, self._setup.mapping)
        formats.findings(mapped, self._format, found)
        # What replaced bytes that are no UTF-8 is not in the raw line.
        if (has_signs or broken) and Code.MIXED_FORMATS not in found.counts:
            found.take(_text_findings(mapped, data))
        return found

    def _room(self, code: Code) -> int:
        """Return how many problems of a code may still be shown."""
        return 0 if code in self.full else DETAIL_PER_CODE - self._by_code[code]

    def _show(self, line: int, found: Findings, data: bytes) -> None:
        """Count what was found in a row, and show what is kept of it."""
        kept = [formats.renamed(finding, self._setup.mapping) for finding in found]
        if kept:
            paths = [finding.path for finding in kept]
            excerpts = Excerpts(data.decode(errors="replace"), paths)
            self._problems += [problem(line, one, excerpts.of(one)) for one in kept]
        self._by_code.update(found.counts)

    def _remember(self, line: int, row: dict[str, Any], data: bytes, *, is_bad: bool) -> bytes:
        """Count a row, and return its hash."""
        self._counting.saw(row)
        mapped = formats.mapped(row, self._setup.mapping)
        if self._format is not None and not is_bad:
            self._counting.add_turns(line, self._format.turns(mapped))
        return hash_of(dict(mapped), data)

    def _add(self, line: int, finding: Finding, excerpt: tuple[str, int, int] | None) -> None:
        """Count a finding, and show it while there are not too many of its code."""
        code = finding.code
        self._by_code[code] += 1
        if self._by_code[code] <= DETAIL_PER_CODE and code not in self.full:
            self._problems.append(problem(line, finding, excerpt))


def problem(line: int, finding: Finding, excerpt: tuple[str, int, int] | None) -> Problem:
    """Return a finding as it is shown: its message a sentence, without the keys it may quote."""
    message = finding.message[:1].upper() + finding.message[1:]
    return Problem(line, finding.code, masked(message) + ".", *(excerpt or ("", 0, 0)))


def _too_long(size: int) -> Finding:
    fault = too_long(size)
    return Finding(fault.code, fault.message)


def is_error(code: Code) -> bool:
    """Tell whether a row with this problem cannot be used."""
    return CATALOGUE[code].severity is Severity.ERROR


def _bounds(data: memoryview) -> tuple[Numbers, Numbers]:
    """Return where the lines of a block start and end, without their endings."""
    codes = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(codes == _NEWLINE)
    if codes[-1] != _NEWLINE:
        ends = np.append(ends, len(codes))
    starts = np.append(0, ends[:-1] + 1)
    return starts, ends - ((codes[ends - 1] == _RETURN) & (ends > starts))


def _tells(line: bytes) -> bool:
    """Tell whether something is to be said of a row's text."""
    row, _ = parse(line)
    return type(row) is dict and any(True for _ in _text_findings(row, line))


def _text_findings(row: Row, data: bytes) -> Iterator[Finding]:
    return text_findings(row, controls=may_hold_controls(data))
