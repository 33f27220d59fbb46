"""The table of a version's rows: where each lies in the rows file, and what is known of it. Pure.

One record of 40 bytes a row, in the file's order, so that row 3,000,000 is found by one seek.
Knows bytes and numbers, no storage and no format.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt

RECORD = np.dtype(
    [
        ("line", "<u8"),  # as an editor shows it
        ("offset", "<u8"),  # of the row's first byte in the rows file
        ("size", "<u4"),  # bytes, without the line's ending; 4 GiB - 1 for whatever is longer
        ("flags", "<u4"),
        ("hash", "<u8", (2,)),  # 128 bits over the normalised row; 0, 0 of what is no object
    ]
)
HAS_ERROR, HAS_WARNING = 1, 2
LARGEST_SIZE = 2**32 - 1
_AT_ONCE = 1 << 16  # records
Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where a row lies: its place in the file's order (from 0), line, offset and size in bytes."""

    place: int
    line: int
    offset: int
    size: int
    flags: int

    @property
    def is_good(self) -> bool:
        """Tell whether the row has no error."""
        return not self.flags & HAS_ERROR


class TableReader:
    """Reads single records of a table without loading it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._count = stream.seek(0, 2) // RECORD.itemsize

    def __len__(self) -> int:
        return self._count

    def rows(self, first: int, count: int) -> list[RowPlace]:
        """Return up to ``count`` rows from place ``first`` on."""
        return as_places(first, self.records(first, count))

    def row(self, place: int) -> RowPlace:
        """Return the row at ``place``; ``IndexError`` where there is none."""
        if not 0 <= place < self._count:
            raise IndexError(place)
        return self.rows(place, 1)[0]

    def records(self, first: int, count: int) -> Records:
        """Return up to ``count`` records from place ``first`` on."""
        count = max(0, min(count, self._count - first))
        self._stream.seek(first * RECORD.itemsize)
        return np.frombuffer(self._stream.read(count * RECORD.itemsize), dtype=RECORD)

    def array(self) -> Records:
        """Return all records, 40 bytes of memory each."""
        return self.records(0, self._count)

    def blocks(self, count: int = _AT_ONCE) -> Iterator[tuple[int, Records]]:
        """Yield the place of the first and the records of each ``count`` rows, in order."""
        for first in range(0, self._count, count):
            yield first, self.records(first, count)

    def place_of_line(self, line: int) -> int:
        """Return the place of the row on ``line``, or of the first one behind it."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if int(self.records(middle, 1)[0]["line"]) < line:
                low = middle + 1
            else:
                high = middle
        return low


def as_places(first: int, records: Records) -> list[RowPlace]:
    """Return records as rows, the first of which is at place ``first``."""
    columns = (records[name].tolist() for name in ("line", "offset", "size", "flags"))
    return [RowPlace(first + at, *row) for at, row in enumerate(zip(*columns, strict=True))]


def as_records(
    *,
    lines: Sequence[int] | npt.NDArray[np.uint64],
    offsets: Sequence[int] | npt.NDArray[np.uint64],
    sizes: Sequence[int] | npt.NDArray[np.uint32],
    flags: Sequence[int] | npt.NDArray[np.uint32],
    hashes: npt.NDArray[np.uint64],
) -> Records:
    """Return records of columns of equal length; ``hashes`` has two numbers a row."""
    made = np.empty(len(lines), dtype=RECORD)
    columns = {"line": lines, "offset": offsets, "size": sizes, "flags": flags, "hash": hashes}
    for name, values in columns.items():
        made[name] = values
    return made


def mark(stream: IO[bytes], places: npt.NDArray[np.int64], flag: int) -> None:
    """Set ``flag`` on the rows at ``places``, which are in order, in a table open for both."""
    # Rows far apart would read all that lies between: a run of them ends with its block.
    for block in np.split(places, np.flatnonzero(np.diff(places // _AT_ONCE)) + 1):
        if not len(block):
            continue
        first, count = int(block[0]), int(block[-1] - block[0]) + 1
        stream.seek(first * RECORD.itemsize)
        data = bytearray(stream.read(count * RECORD.itemsize))
        np.frombuffer(data, dtype=RECORD)["flags"][block - first] |= flag
        stream.seek(first * RECORD.itemsize)
        stream.write(data)
