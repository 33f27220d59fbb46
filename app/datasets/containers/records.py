"""The records of a table as text, each with its first line and its bytes. Pure.

Python's own reader splits them, strictly. A quote that is never closed would swallow the rest of
the file: its record is reported on the line on which it starts, and the lines behind it are read
again as records of their own.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

from app.datasets.check.lines import BOM, LINE_LIMIT, blocks
from app.datasets.containers.base import Fault
from app.datasets.containers.jsonl import too_long
from app.datasets.problems import Code

_BOM = BOM.decode()
_REREAD = 2**26  # bytes that broken records may have read again; then they swallow what they took
_LINE_COST = 100  # a line takes as long as so many bytes
_MOST_LINES = 100_000  # of a record
_LIMIT = f"it has over {LINE_LIMIT // 2**20} MiB or {_MOST_LINES:,} lines; is a quote left open?"
_WHY = (
    ("unexpected end", "a quote opens a cell here and is never closed"),
    ("expected after", "a cell goes on behind its closing quote; write a quote within it twice"),
    ("new-line", "a carriage return stands outside of quotes"),
    ("limit", _LIMIT),
)


class Line(NamedTuple):
    """A line: its number, its text with its ending, its bytes if they are not that text in UTF-8.

    The text of one above the limit is None; ``size`` is then that of its bytes.
    """

    number: int
    text: str | None
    data: bytes | None = None
    size: int = 0


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
        return b"".join(
            [(line.text or "").encode() if line.data is None else line.data for line in self.lines]
        )

    @property
    def is_blank(self) -> bool:
        """Tell whether there is nothing but spaces on its line."""
        return len(self.fields) < 2 and not self.fault and not self.text.strip(" \t")  # noqa: PLR2004

    @property
    def text(self) -> str:
        """The first line, to be shown."""
        return (self.lines[0].text or "").rstrip("\r\n")


def records(stream: IO[bytes], separator_of: Callable[[bytes], str]) -> Iterator[Record]:
    """Yield every record of a table, the header first and blank lines behind it included."""
    source = _lines(stream)
    has_bom = False
    for first in source:
        if first.text is None:
            yield Record([first], [], too_long(first.size))
            return
        has_bom = has_bom or (first.number == 1 and first.text.startswith(_BOM))
        text = first.text.removeprefix(_BOM) if first.number == 1 else first.text
        if text.strip():
            data = first.data.removeprefix(BOM) if first.data is not None else None
            head = Line(first.number, text, data)
            yield from _Records(source, head, separator_of(text.encode()), has_bom=has_bom)
            return


def _lines(stream: IO[bytes]) -> Iterator[Line]:
    """Yield every line; whole blocks are decoded at once where they are UTF-8."""
    number = 1
    for block in blocks(stream):
        if block.data is None:
            yield Line(number, None, None, block.size)
            number += 1
            continue
        try:
            pieces = block.data.decode().split("\n")
        except UnicodeDecodeError:
            for line in _damaged(block.data, number):
                yield line
                number += 1
            continue
        last = pieces.pop()
        for piece in pieces:
            yield Line(number, piece + "\n")
            number += 1
        if last:
            yield Line(number, last)
            number += 1


def _damaged(data: bytes, number: int) -> Iterator[Line]:
    """Yield the lines of a block of which some are not UTF-8; those keep their bytes."""
    for at, piece in enumerate(re.findall(rb"[^\n]*\n|[^\n]+", data)):
        try:
            yield Line(number + at, piece.decode())
        except UnicodeDecodeError:
            yield Line(number + at, piece.decode("utf-8", "replace"), piece)


class _TooLong(Exception):
    """A record has grown beyond what a row may have."""


class _Records:
    """Splits lines into records."""

    def __init__(
        self, source: Iterator[Line], first: Line, separator: str, *, has_bom: bool
    ) -> None:
        csv.field_size_limit(2 * LINE_LIMIT)  # of the process; we count a record's size ourselves
        self._source, self._separator, self._has_bom = source, separator, has_bom
        self._waiting: deque[Line] = deque([first])
        self._taken: list[Line] = []
        self._size, self._reread = 0, 0

    def __iter__(self) -> Iterator[Record]:
        reader = self._reader()
        while True:
            self._taken, self._size = [], 0
            fault = None
            fields: list[str] = []
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = self._damage() or self._fault(str(error))
            except _TooLong:
                fault = self._fault("limit")
            if fault is not None:
                self._give_back()
                reader = self._reader()
            has_bom, self._has_bom = self._has_bom, False
            yield Record(self._taken, fields, fault or self._damage(), has_bom)

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._texts(), delimiter=self._separator, strict=True)

    def _texts(self) -> Iterator[str]:
        """Yield lines as text, noting what is taken since the record began."""
        while line := self._waiting.popleft() if self._waiting else next(self._source, None):
            self._taken.append(line)
            text = line.text
            if text is None:
                raise _TooLong
            self._size += len(text)
            if self._size > LINE_LIMIT or len(self._taken) > _MOST_LINES:
                raise _TooLong
            yield text

    def _give_back(self) -> None:
        """Let the lines behind the first be read again, while that does not take too long."""
        if self._reread < _REREAD:
            self._reread += self._size + _LINE_COST * len(self._taken)
            self._waiting.extendleft(reversed(self._taken[1:]))
            self._taken = self._taken[:1]

    def _fault(self, reason: str) -> Fault:
        first = self._taken[0]
        if first.text is None:
            return too_long(first.size)
        text = first.text.rstrip("\r\n")
        why = next((why for part, why in _WHY if part in reason), reason)
        code = Code.LINE_TOO_LONG if self._size > LINE_LIMIT else Code.INVALID_JSON
        return Fault(code, f"the record cannot be read: {why}", text, 0, len(text))

    def _damage(self) -> Fault | None:
        """Return the first bytes of the record that are not UTF-8."""
        line = next((line for line in self._taken if line.data is not None), None)
        return None if line is None else _not_utf8(line)


def _not_utf8(line: Line) -> Fault | None:
    data = line.data or b""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        at = len(data[: error.start].decode())
        message = (
            f"byte {error.start + 1:,} of line {line.number:,}, 0x{data[error.start]:02X}, "
            "is not UTF-8"
        )
        low = max(0, at - 200)  # so that the spot is within what is kept of the text
        text = data.decode(errors="replace").rstrip("\r\n")[low:]
        return Fault(Code.NOT_UTF8, message, text, at - low, at - low + 1)
    return None
