"""Rows of one version that equal, or almost equal, a row of another. Knows rows and numbers.

Equal is told by the tables' hashes for all rows. What almost equals is told by shared MinHash bands
and then word by word, for as many pairs as are allowed: the result says whether that was all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.datasets.alike.candidates import Places
from app.datasets.alike.copies import first_alike
from app.datasets.alike.minhash import BANDS, Bands
from app.datasets.alike.words import Flags, likeness, worded
from app.datasets.reading import Rows

_STEPS = 4  # rows of the other version, of those that share a band, that are looked at
_PAIRS_AT_ONCE = 500
NONE = -1


@dataclass(frozen=True)
class Side:
    """One version: its opened rows and their bands (rows × 12), None if there are none yet."""

    rows: Rows
    bands: Bands | None


@dataclass
class Matches:
    """For each row: the place of its match, ``NONE`` if there is none, and how similar it is."""

    others: Places
    similarity: npt.NDArray[np.float32]
    exact: Flags
    complete: bool = True

    @property
    def places(self) -> Places:
        """Return the rows that have a match, in order."""
        return np.flatnonzero(self.others != NONE)


def matches(here: Side, there: Side, *, most_pairs: int) -> Matches:
    """Match the rows of ``here``; at most ``most_pairs`` pairs are compared word by word."""
    hashes, theirs = (side.rows.table.array()["hash"] for side in (here, there))
    others = _equal(hashes, theirs)
    found = Matches(others, (others != NONE).astype(np.float32), others != NONE)
    if here.bands is None or there.bands is None:
        found.complete = not len(hashes) or not len(theirs)
        return found
    first = first_alike(here.rows.table)
    open_rows = (others == NONE) & (first == np.arange(len(first))) & _signed(here.bands)
    found.complete = _near(here, there, found, open_rows, most=most_pairs)
    for column in (found.others, found.similarity, found.exact):
        column[:] = column[first]  # copies share what their first one has
    return found


def _signed(bands: Bands) -> Flags:
    return np.count_nonzero(bands, axis=1) > 0


def _equal(hashes: npt.NDArray[np.uint64], theirs: npt.NDArray[np.uint64]) -> Places:
    """Return for each hash the first place of the same among theirs, or ``NONE``."""
    others = np.full(len(hashes), NONE, dtype=np.int64)
    if not len(theirs):
        return others
    order = np.argsort(theirs[:, 0], kind="stable")
    at = np.searchsorted(theirs[order, 0], hashes[:, 0])
    found = order[np.minimum(at, len(order) - 1)]
    same = (theirs[found] == hashes).sum(axis=1) == 2  # noqa: PLR2004  # both halves
    same &= (hashes != 0).any(axis=1)
    others[same] = found[same]
    return others


def _near(here: Side, there: Side, found: Matches, open_rows: Flags, *, most: int) -> bool:
    """Note near matches of the open rows; tell whether all pairs could be compared."""
    seen: set[tuple[int, int]] = set()
    for mine, theirs in _pairs(here, there, found, open_rows):
        coming = zip(mine.tolist(), theirs.tolist(), strict=True)
        pairs = [pair for pair in coming if pair not in seen]
        if len(seen) + len(pairs) > most:
            pairs = pairs[: most - len(seen)]
            _compare(here, there, found, pairs)
            return False
        seen.update(pairs)
        _compare(here, there, found, pairs)
    return True


def _pairs(
    here: Side, there: Side, found: Matches, open_rows: Flags
) -> Iterator[tuple[Places, Places]]:
    """Yield pairs that share a band, one of each row at a time, while the row has no match."""
    assert here.bands is not None
    assert there.bands is not None
    signed = np.flatnonzero(_signed(there.bands))
    for band in range(BANDS):
        order = signed[np.argsort(there.bands[signed, band], kind="stable")]
        keys = there.bands[order, band]
        rows = np.flatnonzero(open_rows)
        low = np.searchsorted(keys, here.bands[rows, band], side="left")
        high = np.searchsorted(keys, here.bands[rows, band], side="right")
        for step in range(_STEPS):
            wanted = (low + step < high) & (found.others[rows] == NONE)
            if not wanted.any():
                break
            yield rows[wanted], order[low[wanted] + step]


def _compare(here: Side, there: Side, found: Matches, pairs: list[tuple[int, int]]) -> None:
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        mine, theirs = (
            worded([side.rows.turns(side.rows.place(place)) for place in places])
            for side, places in zip((here, there), zip(*part, strict=True), strict=True)
        )
        alike = likeness(mine, theirs)
        for (place, other), similarity, almost in zip(
            part, alike.similarity.tolist(), alike.almost.tolist(), strict=True
        ):
            if almost:
                found.others[place], found.similarity[place] = other, similarity
