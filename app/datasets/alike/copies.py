"""Which rows are copies of an earlier one, by the hashes in the table. Pure.

Hashes are compared a part at a time, chosen by their first bits, so that memory stays at 4 bytes a
row and some 60 MiB, however many rows there are.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from app.datasets.table import TableReader

_PART_ROWS = 1 << 20  # compared at once, on average
_AT_ONCE = 1 << 16


def copies(table: TableReader) -> Iterator[tuple[int, int]]:
    """Yield the place of each copy, in order, and the place of the first row like it.

    Rows without a hash (0, 0) are copies of none.
    """
    first = first_alike(table)
    for start in range(0, len(first), _AT_ONCE):
        part = first[start : start + _AT_ONCE]
        at = np.flatnonzero(part != np.arange(start, start + len(part), dtype=part.dtype))
        yield from zip((at + start).tolist(), part[at].tolist(), strict=True)


def first_alike(table: TableReader) -> npt.NDArray[np.uint32]:
    """Return for each row the place of the first row with the same hash; its own if it is that."""
    first = np.arange(len(table), dtype=np.uint32)
    bits = max(0, (len(table) - 1) // _PART_ROWS).bit_length()
    for part in range(1 << bits):
        places, hashes = _part(table, part, bits)
        _compare(places, hashes, first)
    return first


def _part(
    table: TableReader, part: int, bits: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
    """Return the places and hashes of the rows whose hash begins with the bits of ``part``."""
    places: list[npt.NDArray[np.uint32]] = []
    hashes: list[npt.NDArray[np.uint64]] = []
    for start, records in table.blocks(_AT_ONCE):
        found = records["hash"]
        # A shift by all 64 bits is undefined: a single part takes all.
        wanted = found.any(axis=1)
        if bits:
            wanted &= found[:, 0] >> np.uint64(64 - bits) == part
        at = np.flatnonzero(wanted)
        places.append((at + start).astype(np.uint32))
        hashes.append(found[at])
    if not places:
        return np.empty(0, np.uint32), np.empty((0, 2), np.uint64)
    return np.concatenate(places), np.concatenate(hashes)


def _compare(
    places: npt.NDArray[np.uint32],
    hashes: npt.NDArray[np.uint64],
    first: npt.NDArray[np.uint32],
) -> None:
    """Note in ``first`` what is alike among rows in order of their places."""
    if not len(places):
        return
    order = np.argsort(hashes[:, 0], kind="stable")  # equal rows stay in order
    ordered = hashes[order]
    differ = ordered[1:] != ordered[:-1]
    if (differ[:, 1] & ~differ[:, 0]).any():  # half of their hashes is equal, by chance
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
        ordered = hashes[order]
        differ = ordered[1:] != ordered[:-1]
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = differ.any(axis=1)
    leaders = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    first[places[order]] = places[leaders]
