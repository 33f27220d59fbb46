"""A byte stream as whole lines, in constant memory. Pure.

Lines end with LF or CRLF only and count from 1, as an editor shows them. A line above the limit is
skipped while it is read, so a line of gigabytes costs no memory and the next ones are still seen.
Knows nothing of JSON.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

LINE_LIMIT = 16 * 2**20
BOM = b"\xef\xbb\xbf"
_READ_BYTES = 2**21
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


def blocks(stream: IO[bytes], start: int = 0, end: int | None = None) -> Iterator[Block]:
    """Yield the lines of a stream that stands at byte ``start`` of its file, up to ``end``.

    Only the last line of a file may lack its ending. Blocks hold some 512 KiB, or one long line.
    """
    held: list[bytes] = []
    offset, size = start, 0
    while chunk := stream.read(_READ_BYTES if end is None else min(_READ_BYTES, end - start)):
        start += len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if cut and size + chunk.find(b"\n") > LINE_LIMIT + 1:
            size += chunk.find(b"\n")
            yield Block(offset, None, size)
            offset += size + 1
            chunk = chunk[chunk.find(b"\n") + 1 :]
            held, size, cut = [], 0, chunk.rfind(b"\n") + 1
        if cut:
            data = b"".join([*held, chunk[:cut]])
            yield Block(offset, data, len(data))
            offset += len(data)
            held, size = [], 0
        size += len(chunk) - cut
        held.append(chunk[cut:])
        if size > LINE_LIMIT + 1:
            held.clear()
    if size:
        yield Block(offset, None if size > LINE_LIMIT + 1 else b"".join(held), size)


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
