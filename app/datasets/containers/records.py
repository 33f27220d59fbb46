"""The records of a table as text, each with its first line and its bytes. Pure.

Python's own reader splits them, strictly. A quote that is never closed would swallow the rest of
the file: its record is reported on the line on which it starts, and the lines behind it are read
again as records of their own.
"""

import csv
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from app.datasets.containers.base import Fault
from app.datasets.containers.jsonl import too_long
from app.datasets.lines import BOM, LINE_LIMIT, Line, lines
from app.datasets.problems import Code

_REREAD = 2**26  # bytes that broken records may have read again; then they swallow what they took
_LINE_COST = 100  # a line takes as long as so many bytes
_MOST_LINES = 100_000  # of a record
_WHY = (
    ("unexpected end", "a quote opens a cell here and is never closed"),
    ("expected after", "a cell goes on behind its closing quote; write a quote within it twice"),
    ("new-line", "a carriage return stands outside of quotes"),
    (
        "limit",
        f"it has over {LINE_LIMIT // 2**20} MiB or {_MOST_LINES:,} lines; is a quote left open?",
    ),
)


@dataclass(slots=True)  # not frozen: there are millions
class Record:
    """One record: its lines, its cells, or what is wrong with it."""

    lines: list[Line]
    fields: list[str]
    fault: Fault | None = None
    has_bom: bool = False

    @property
    def line(self) -> int:
        """The line on which it starts."""
        return self.lines[0].number

    @property
    def raw(self) -> bytes:
        """Its bytes as they stand in the file, without a BOM."""
        return b"".join([(line.data or b"") + line.ending for line in self.lines])

    @property
    def is_blank(self) -> bool:
        """Tell whether there is nothing but spaces on its line."""
        return len(self.fields) < 2 and not self.fault and not self.raw.strip(b" \t\r\n")  # noqa: PLR2004

    @property
    def text(self) -> str:
        """The first line, to be shown."""
        return (self.lines[0].data or b"").decode("utf-8", "replace")


def records(stream: IO[bytes], separator_of: Callable[[bytes], str]) -> Iterator[Record]:
    """Yield every record of a table, the header first and blank lines behind it included."""
    source = lines(stream)
    for first in source:
        data = first.data or b""
        has_bom = first.number == 1 and data.startswith(BOM)
        data = data.removeprefix(BOM) if has_bom else data
        if data.strip(b" \t\r"):
            head = Line(first.number, first.data and data, first.ending, first.size, first.offset)
            yield from _Records(source, head, separator_of(data), has_bom=has_bom)
            return
        if first.data is None:
            yield Record([first], [], too_long(first.size))
            return


class _TooLong(Exception):
    """A record has grown beyond what a row may have."""


class _Records:
    """Splits lines into records."""

    def __init__(
        self, source: Iterator[Line], first: Line, separator: str, *, has_bom: bool
    ) -> None:
        csv.field_size_limit(2 * LINE_LIMIT)  # of the process; we count a record's bytes ourselves
        self._source, self._separator, self._has_bom = source, separator, has_bom
        self._waiting: deque[Line] = deque([first])
        self._taken: list[Line] = []
        self._size, self._reread = 0, 0
        self._damage: Fault | None = None

    def __iter__(self) -> Iterator[Record]:
        reader = self._reader()
        while True:
            self._taken, self._size, self._damage = [], 0, None
            fault = None
            fields: list[str] = []
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = self._damage or self._fault(str(error))
            except _TooLong:
                fault = self._fault("field limit")
            if fault is not None:
                self._give_back()
                reader = self._reader()
            yield self._record(fields, fault)

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._texts(), delimiter=self._separator, strict=True)

    def _texts(self) -> Iterator[str]:
        """Yield lines as text, noting what is taken since the record began."""
        while line := self._waiting.popleft() if self._waiting else next(self._source, None):
            self._taken.append(line)
            self._size += line.size
            if line.data is None or self._size > LINE_LIMIT or len(self._taken) > _MOST_LINES:
                raise _TooLong
            try:
                text = line.data.decode()
            except UnicodeDecodeError as error:
                self._damage = self._damage or _not_utf8(line, error)
                text = line.data.decode("utf-8", "replace")
            yield text + line.ending.decode()

    def _record(self, fields: list[str], fault: Fault | None) -> Record:
        has_bom, self._has_bom = self._has_bom, False
        return Record(self._taken, fields, fault or self._damage, has_bom)

    def _give_back(self) -> None:
        """Let the lines behind the first be read again, while that does not take too long."""
        if self._reread < _REREAD:
            self._reread += self._size + _LINE_COST * len(self._taken)
            self._waiting.extendleft(reversed(self._taken[1:]))
            self._taken = self._taken[:1]

    def _fault(self, reason: str) -> Fault:
        first = self._taken[0]
        if first.data is None:
            return too_long(first.size)
        text = first.data.decode("utf-8", "replace")
        why = next((why for part, why in _WHY if part in reason), reason)
        code = Code.LINE_TOO_LONG if self._size > LINE_LIMIT else Code.INVALID_JSON
        return Fault(code, f"the record cannot be read: {why}", text, 0, len(text))


def _not_utf8(line: Line, error: UnicodeDecodeError) -> Fault:
    data = line.data or b""
    at = len(data[: error.start].decode())
    message = (
        f"byte {error.start + 1:,} of line {line.number:,}, 0x{data[error.start]:02X}, is not UTF-8"
    )
    low = max(0, at - 200)  # so that the spot is within what is kept of the text
    return Fault(
        Code.NOT_UTF8, message, data.decode(errors="replace")[low:], at - low, at - low + 1
    )
