"""A byte stream as numbered lines, in constant memory. Pure.

Lines end with LF or CRLF only and count from 1, as an editor shows them. A line above the limit is
skipped while it is read, so a line of gigabytes costs no memory and the next ones are still seen.
Knows nothing of JSON.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

LINE_LIMIT = 16 * 2**20
BOM = b"\xef\xbb\xbf"
_CHUNK = 2**20
_BLANKS = b" \t\r"


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


def lines(stream: IO[bytes]) -> Iterator[Line]:
    """Yield every line; a last one without an ending too, if it has bytes."""
    number, offset = 1, 0
    held: list[bytes] = []
    size = 0
    while chunk := stream.read(_CHUNK):
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            size += len(piece)
            held.append(piece)
            yield _line(number, held, size=size, ending=b"\n", offset=offset)
            number, offset = number + 1, offset + size + 1
            held, size = [], 0
        size += len(rest)
        held.append(rest)
        if size > LINE_LIMIT + 1:
            held.clear()
    if size:
        yield _line(number, held, size=size, ending=b"", offset=offset)


def _line(number: int, held: list[bytes], *, size: int, ending: bytes, offset: int) -> Line:
    if size > LINE_LIMIT + 1:
        return Line(number, None, ending, size, offset)
    data = held[0] if len(held) == 1 else b"".join(held)
    if ending and data.endswith(b"\r"):
        data, ending = data[:-1], b"\r\n"
    kept = data if len(data) <= LINE_LIMIT else None
    return Line(number, kept, ending, len(data), offset)
