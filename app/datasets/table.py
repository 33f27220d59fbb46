"""The table of a version's rows: where each lies in the rows file, and what is known of it. Pure.

One record of 40 bytes a row, in the file's order, so that row 3,000,000 is found by one seek.
Knows bytes and numbers, no storage and no format.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt

RECORD = np.dtype(
    [
        ("line", "<u8"),  # as an editor shows it
        ("offset", "<u8"),  # of the row's first byte in the rows file
        ("size", "<u4"),  # bytes, without the line's ending
        ("flags", "<u4"),
        ("hash", "<u8", (2,)),  # 128 bits over the normalised row
    ]
)
HAS_ERROR, HAS_WARNING = 1, 2
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
        return [
            RowPlace(first + at, int(row["line"]), int(row["offset"]), int(row["size"]), flags)
            for at, row in enumerate(self.records(first, count))
            for flags in [int(row["flags"])]
        ]

    def records(self, first: int, count: int) -> Records:
        """Return up to ``count`` records from place ``first`` on."""
        count = max(0, min(count, self._count - first))
        self._stream.seek(first * RECORD.itemsize)
        return np.frombuffer(self._stream.read(count * RECORD.itemsize), dtype=RECORD)

    def array(self) -> Records:
        """Return all records, 40 bytes of memory each."""
        return self.records(0, self._count)

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


def as_records(
    *,
    lines: Sequence[int],
    offsets: Sequence[int],
    sizes: Sequence[int],
    flags: Sequence[int],
    hashes: npt.NDArray[np.uint64],
) -> Records:
    """Return records of columns of equal length; ``hashes`` has two numbers a row."""
    made = np.empty(len(lines), dtype=RECORD)
    columns = {"line": lines, "offset": offsets, "size": sizes, "flags": flags, "hash": hashes}
    for name, values in columns.items():
        made[name] = values
    return made
