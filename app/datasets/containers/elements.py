"""The elements of a JSON array, one by one, in constant memory. Pure.

Only brackets and strings are looked at. Where they do not fit, reading goes on at what looks like
the next row: it begins on a line of its own as deep as the broken one, or with the same key.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import msgspec

from app.datasets.check.lines import BOM, LINE_LIMIT
from app.datasets.containers.base import Interrupted, Note, bom_note
from app.datasets.formats.base import Finding
from app.datasets.problems import Code

_CHUNK = 2**20
# All up to the next bracket, whole strings included; a string's start where its end is not there.
_TO_BRACKET = re.compile(
    rb'[^"{}\[\]]*+(?:"[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+"[^"{}\[\]]*+)*+', re.DOTALL
)
_IN_STRING = re.compile(rb'[^"\\\n]*+(?:\\[^\n][^"\\\n]*+)*+', re.DOTALL)
_TO_COMMA = re.compile(rb"[^,\]\n]*+")
_GAP = re.compile(rb"[, \t\r\n]*+")
_QUOTE, _BACKSLASH, _COMMA, _CLOSE = b'"\\,]'
_OPENER = {ord("}"): ord("{"), ord("]"): ord("[")}
_ENDS = (b"}", b"]", b'"')
_DEEPEST = 2**16
_LONGEST_GAP = 4096  # bytes of space before a row that are kept
_FIRST_KEY = re.compile(rb'\{\s{0,200}("[^"\\\n]{1,100}")\s{0,20}:')
_OVERLAP = 1024  # bytes that may hold the start of a row that is cut by a chunk's end
_RESCANS = 2**25  # bytes read twice in search of the next row; then a broken one swallows more
# Bytes of a row after which another one within it means that this one was never closed; first for
# files that seem to be in order, then for those in which that has been seen.
_PATIENCE, _IMPATIENCE = 2**20, 2**12
_MOST_NOTES = 1000
_validate = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(slots=True)  # not frozen: there are millions
class Element:
    """One element as it stands: its line, the space before it, and its bytes.

    ``data`` is None where it is longer than a row may be. ``is_whole`` tells whether brackets and
    strings fit, ``is_last`` whether the file ends within it.
    """

    line: int
    before: bytes
    data: bytes | None
    size: int
    is_whole: bool = True
    is_last: bool = False


class Elements:
    """Iterates over the elements of an array, and over notes on what stands between them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._buffer, self._at = b"", 0  # what is read, and where in it we are
        self._line = 1  # of that place
        self._dropped = 0  # bytes of the current element that were too many to be kept
        self._key = b""  # the first key of the rows
        self._rescanned, self._patience = 0, _PATIENCE
        self._notes = 0
        self._interrupted: Interrupted | None = None

    def __iter__(self) -> Iterator[Element | Note]:
        yield from self._open()
        commas_due, element = 0, None
        while True:
            line = self._line
            before, commas = self._gap()
            if self._at == len(self._buffer):
                self._raise_interruption()
                if element is None or not element.is_last:
                    yield self._note(line, "the list is never closed: its last ] is missing")
                return
            closes = self._buffer[self._at] == _CLOSE
            if element is None or element.is_whole:
                yield from self._about_commas(commas, 0 if closes else commas_due, closes=closes)
            if closes:
                break
            element = self._element(before)
            if element.is_last or not (element.data or b"").endswith(_ENDS):
                self._raise_interruption()
            yield element
            commas_due = 1
        yield from self._close()
        self._raise_interruption()

    def _raise_interruption(self) -> None:
        """Say that the stream broke, once all that came before is read."""
        if self._interrupted is not None:
            raise self._interrupted

    def _note(self, line: int, message: str) -> Note:
        return Note(line, Finding(Code.INVALID_JSON, message))

    def _open(self) -> Iterator[Note]:
        self._more()
        if self._buffer.startswith(BOM):
            self._at = len(BOM)
            yield bom_note()
        self._gap()
        self._at += 1

    def _close(self) -> Iterator[Note]:
        self._at += 1
        self._gap()
        if self._at < len(self._buffer):
            yield self._note(self._line, "there is more behind the end of the list; it is not read")

    def _about_commas(self, found: int, due: int, *, closes: bool) -> Iterator[Note]:
        if found == due or self._notes >= _MOST_NOTES:
            return
        self._notes += 1
        if closes:
            message = "a comma stands behind the last row"
        elif found < due:
            message = "a comma is missing before this row"
        else:
            message = "there is a comma too many before this row"
        yield self._note(self._line, message)

    def _more(self) -> bool:
        """Read on, forgetting what lies before the place where we are."""
        try:
            chunk = self._stream.read(_CHUNK)
        except Interrupted as error:
            self._interrupted, chunk = error, b""
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return bool(chunk)

    def _pass(self, size: int) -> bytes:
        """Return the next ``size`` bytes and stand behind them."""
        data = self._buffer[self._at : self._at + size]
        self._at += size
        self._line += data.count(b"\n")
        return data

    def _drop(self, size: int) -> None:
        self._dropped += len(self._pass(size))

    def _gap(self) -> tuple[bytes, int]:
        """Pass over spaces and commas; return the space behind the last comma, and how many."""
        before, commas = b"", 0
        while True:
            end = _matched(_GAP, self._buffer, self._at)
            piece = self._pass(end - self._at)
            commas += piece.count(b",")
            before = (before + piece)[-_LONGEST_GAP:]
            if end < len(self._buffer) or not self._more():
                return before.rpartition(b",")[2], commas

    def _element(self, before: bytes) -> Element:
        line, self._dropped = self._line, 0
        first = self._buffer[self._at]
        if first in b'{["':
            end = self._leap()
            end, is_whole = (end, True) if end else self._scan(before, quoted=first == _QUOTE)
        else:
            end, is_whole = self._scalar(), True
        data = self._pass(end).rstrip(b" \t\r\n" if is_whole else b" \t\r\n,")
        size = self._dropped + len(data)
        kept = None if size > LINE_LIMIT else data
        is_last = not is_whole and self._at == len(self._buffer) and not self._more()
        return Element(line, before, kept, size, is_whole, is_last)

    def _leap(self) -> int:
        """Return how far an element goes that is followed by one of the same first key, else 0.

        Far faster than to scan it: what lies before that key is taken if it is valid.
        """
        opening = _FIRST_KEY.match(self._buffer, self._at)
        if opening is None:
            return 0
        self._key = opening.group(1)
        found = self._buffer.find(opening.group(), opening.end())
        if found < 0 and self._more():
            found = self._buffer.find(opening.group(), 1)
        end = len(self._buffer[self._at : max(found, self._at)].rstrip(b" \t\r\n")) - 1
        if end < 0 or self._buffer[self._at + end] != _COMMA:
            return 0
        try:
            _validate(self._buffer[self._at : self._at + end])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return 0
        return end

    def _scalar(self) -> int:
        """Return how far a value without brackets goes from here."""
        size = 0
        while True:
            size = _matched(_TO_COMMA, self._buffer, self._at + size) - self._at
            if self._at + size < len(self._buffer):
                return size
            if size > LINE_LIMIT:
                self._drop(size)
                size = 0
            if not self._more():
                return size

    def _scan(self, before: bytes, *, quoted: bool) -> tuple[int, bool]:
        """Return how far an element goes from here, and whether its brackets and strings fit."""
        stack, size, look_at = bytearray(), int(quoted), self._patience
        while True:
            pattern = _IN_STRING if quoted else _TO_BRACKET
            size = _matched(pattern, self._buffer, self._at + size) - self._at
            here = self._buffer[self._at + size : self._at + size + 2]
            if not here or here == b"\\":
                if size > LINE_LIMIT:
                    self._drop(size)
                    size = 0
                if not self._more():
                    return self._cut(before, size), False
                continue
            quoted, fits = _step(here[0], stack, quoted=quoted)
            if not fits or (size > look_at and self._seems_unclosed(size)):
                return self._cut(before, size), False
            look_at = max(look_at, 2 * size) if size > look_at else look_at
            size += 1
            if not stack and not quoted:
                return size, True

    def _next_row(self, before: bytes) -> re.Pattern[bytes]:
        """Return what tells where the row behind this one may begin."""
        ways = [_begins_with(self._key)] if self._key else []
        if b"\n" in before:
            ways.append(rb"\n" + re.escape(before.rpartition(b"\n")[2]) + rb"(?=\{)")
        return re.compile(b"|".join(ways or [rb"\n[ \t]{0,200}(?=\{)"]))

    def _seems_unclosed(self, size: int) -> bool:
        """Tell whether another row seems to begin within the first bytes of a long element."""
        if not self._key or self._dropped:
            return False
        row = re.compile(_begins_with(self._key))
        return row.search(self._buffer, self._at + 1, self._at + size) is not None

    def _cut(self, before: bytes, fault: int) -> int:
        """Return how far a broken element goes: to the next row, or to the file's end."""
        next_row, size = self._next_row(before), fault
        if not self._dropped and self._rescanned < _RESCANS:
            self._rescanned += fault
            size = 1
        while not (found := next_row.search(self._buffer, self._at + size)):
            size = max(size, len(self._buffer) - self._at - _OVERLAP)
            if size > LINE_LIMIT:
                self._drop(size)
                size = 0
            if not self._more():
                return len(self._buffer)
        if found.start() - self._at < fault and self._key:
            self._patience = _IMPATIENCE
        return found.start() - self._at


def _matched(pattern: re.Pattern[bytes], data: bytes, start: int) -> int:
    """Return where a pattern that may match nothing ends."""
    found = pattern.match(data, start)
    return found.end() if found else start


def _begins_with(key: bytes) -> bytes:
    """Return the pattern of what comes before an object whose first key is ``key``."""
    return rb"[,\n]\s{0,200}(?=\{\s{0,200}" + re.escape(key) + rb"\s{0,20}:)"


def _step(byte: int, stack: bytearray, *, quoted: bool) -> tuple[bool, bool]:
    """Take a quote or bracket; return whether we are in a string now, and whether it fits."""
    if quoted:
        return False, byte == _QUOTE  # else a line ends within the string
    if byte == _QUOTE:
        return True, True
    opener = _OPENER.get(byte)
    if opener is None:
        stack.append(byte)
        return False, len(stack) <= _DEEPEST
    return False, bool(stack) and stack.pop() == opener
