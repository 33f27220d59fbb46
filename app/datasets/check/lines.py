"""A byte stream as whole lines, in constant memory. Pure.

Lines end with LF or CRLF only and count from 1, as an editor shows them. A line above the limit is
skipped while it is read, so a line of gigabytes costs no memory and the next ones are still seen.
Knows nothing of JSON.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

LINE_LIMIT = 16 * 2**20
BOM = b"\xef\xbb\xbf"
_READ_BYTES = 2**20
_BLANKS = b" \t\r"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines with their endings (None for a single line that is too long): where, how long.

    ``size`` counts endings, but for the one of a line that is too long.
    """

    offset: int
    data: bytes | None
    size: int


@dataclass(frozen=True, slots=True)
class View:
    """A block as it lies in a buffer that is used over and over: gone when the next is asked."""

    offset: int
    data: memoryview | None
    size: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number, bytes without ending (None if too long), ending, size and offset.

    A BOM at the start of the file stays in the first line's bytes.
    """

    number: int
    data: bytes | None
    ending: bytes
    size: int
    offset: int

    @property
    def is_blank(self) -> bool:
        """Tell whether there is nothing but spaces and tabs."""
        return self.data is not None and not self.data.strip(_BLANKS)


def blocks(stream: IO[bytes]) -> Iterator[Block]:
    """Yield the lines of a stream that stands at its start, many at once.

    Only the last line of a file may lack its ending. Blocks hold some MiB, or one long line.
    """
    for view in views(stream):
        yield Block(view.offset, None if view.data is None else bytes(view.data), view.size)


def views(stream: IO[bytes], start: int = 0, end: int | None = None) -> Iterator[View]:
    """Yield the blocks of a stream that stands at byte ``start``, up to byte ``end``."""
    reader = _Reader(stream, start, end)
    offset = start
    while reader.read():
        if reader.skipped:
            yield View(offset, None, reader.skipped)
            offset += reader.skipped + len(reader.ending)
        if size := reader.whole:
            with reader.view(size) as data:
                yield View(offset, data, size)
            offset += size
    if (size := reader.left) > LINE_LIMIT + 1:
        yield View(offset, None, size)
    elif size:
        with reader.view(size) as data:
            yield View(offset, data, size)


class _Reader:
    """Reads into one buffer, which keeps the beginning of a line whose end is not read yet."""

    def __init__(self, stream: IO[bytes], start: int, end: int | None) -> None:
        self._stream, self._at, self._end = stream, start, end
        self._buffer = bytearray(2 * _READ_BYTES)
        self._held = 0  # bytes in the buffer
        self._used = 0  # of them, what was given away already
        self._lost = 0  # bytes of the line at hand that are not kept: it is too long
        self._last = b""  # the byte before the buffer's first
        self.skipped, self.ending = 0, b""  # bytes of a line that was too long and has just ended

    @property
    def left(self) -> int:
        """Return how many bytes the line at hand has so far."""
        return self._lost + self._held - self._used

    def read(self) -> bool:
        """Read on; return whether there was anything."""
        self._keep_rest()
        wanted = min(len(self._buffer) - self._held, 2 * _READ_BYTES)
        wanted = wanted if self._end is None else min(wanted, self._end - self._at)
        got = self._read_into(wanted)
        self._at += got
        self._held += got
        self._skip()
        return bool(got)

    def _keep_rest(self) -> None:
        """Move what is left to the front, and see to it that there is room behind."""
        rest = self._held - self._used
        if rest > LINE_LIMIT + 1 or (rest and self._lost):
            self._last = bytes(self._buffer[self._held - 1 : self._held])
            self._lost, rest = self._lost + rest, 0
        elif self._used:
            self._buffer[:rest] = self._buffer[self._used : self._held]
        self._held, self._used = rest, 0
        if len(self._buffer) - rest < _READ_BYTES:
            self._buffer += bytes(4 * _READ_BYTES)

    def _read_into(self, wanted: int) -> int:
        with memoryview(self._buffer)[self._held : self._held + wanted] as room:
            if isinstance(self._stream, io.BufferedReader | io.BytesIO | io.FileIO):
                return self._stream.readinto(room) or 0
            data = self._stream.read(wanted)  # not all that can be read can fill a buffer
            room[: len(data)] = data
            return len(data)

    def _skip(self) -> None:
        """Pass over the end of a line that is too long, if it is here."""
        self.skipped = 0
        end = self._buffer.find(b"\n", 0, self._held)
        if end < 0 or self._lost + end <= LINE_LIMIT + 1:
            return
        before = bytes(self._buffer[end - 1 : end]) if end else self._last
        self.ending = b"\r\n" if before == b"\r" else b"\n"
        self.skipped = self._lost + end + 1 - len(self.ending)
        self._lost, self._used = 0, end + 1

    @property
    def whole(self) -> int:
        """Return the size of the whole lines that are held."""
        return max(0, self._buffer.rfind(b"\n", self._used, self._held) + 1 - self._used)

    def view(self, size: int) -> memoryview:
        """Give away so many bytes."""
        start, self._used = self._used, self._used + size
        return memoryview(self._buffer)[start : start + size]


def lines(stream: IO[bytes]) -> Iterator[Line]:
    """Yield every line from the start; a last one without an ending too, if it has bytes."""
    number = 1
    for block in blocks(stream):
        if block.data is None:
            yield Line(number, None, b"\n", block.size, block.offset)
            number += 1
            continue
        offset = block.offset
        pieces = block.data.split(b"\n")
        ends = [b"\n"] * (len(pieces) - 1) + [b""]
        for piece, ending in zip(pieces, ends, strict=True):
            if piece or ending:
                yield _line(number, piece, ending, offset)
                number, offset = number + 1, offset + len(piece) + 1


def _line(number: int, data: bytes, ending: bytes, offset: int) -> Line:
    if ending and data.endswith(b"\r"):
        data, ending = data[:-1], b"\r\n"
    return Line(number, data if len(data) <= LINE_LIMIT else None, ending, len(data), offset)
