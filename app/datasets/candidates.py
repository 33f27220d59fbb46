"""Which rows read almost as an earlier one, and which belong together. Pure.

Rows that share a band are compared in rounds. A pair whose rows are known to belong together is
passed over, so a thousand rows of one text cost about a thousand comparisons. In a crowd, where
many rows share a band, only neighbours are compared: first those that share a second band too.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import numpy.typing as npt

from app.datasets.minhash import BANDS, folded

_CROWD = 8  # rows that share a band; up to so many, all are compared
_STEPS = 3  # how far away a neighbour in a crowd may stand
_TRIES = 16  # how many neighbours in crowds a row is compared with in vain

Places = npt.NDArray[np.int64]
Compare = Callable[[Places, Places], npt.NDArray[np.bool_]]


class Candidates:
    """Compares rows 0 to n-1 by their ``bands`` (12 × n); ``compare`` tells which pairs are alike.

    Afterwards ``leaders`` has the first row of each row's group, and ``like`` an earlier row that
    it reads almost as, itself if there is none. Rows of one group need not be alike one by one.
    """

    def __init__(self, bands: npt.NDArray[np.uint32], compare: Compare) -> None:
        count = bands.shape[1]
        self.leaders: Places = np.arange(count)
        self.like: Places = np.arange(count)
        self._bands, self._compare = bands, compare
        self._crowded = np.zeros(count, dtype=np.bool_)
        self._tries = np.zeros(count, dtype=np.uint8)

    def run(self, progress: Callable[[float], None]) -> None:
        """Compare; ``progress`` hears the share done (0 to 1)."""
        pairs = list(combinations(range(BANDS), 2))
        rounds = 2 * BANDS + len(pairs)
        for band in range(BANDS):
            self._few(band)
            progress((band + 1) / rounds)
        crowded = np.flatnonzero(self._crowded)
        for done, (one, other) in enumerate(pairs):
            both = np.stack([self._bands[one][crowded], self._bands[other][crowded]], axis=-1)
            self._crowd(folded(both.astype(np.uint64)), crowded)
            progress((BANDS + done + 1) / rounds)
        for band in range(BANDS):
            self._crowd(self._bands[band][crowded], crowded)
            progress((BANDS + len(pairs) + band + 1) / rounds)

    def _few(self, band: int) -> None:
        """Compare all rows that share a band with few others; note the other ones."""
        keys, rows = _ordered(self._bands[band], None)
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        sizes = np.diff(np.append(starts, len(keys)))
        size = np.repeat(sizes, sizes)
        self._crowded[rows[size > _CROWD]] = True
        few = np.flatnonzero((size > 1) & (size <= _CROWD))
        self._rounds(keys[few], rows[few], steps=_CROWD - 1)

    def _crowd(self, keys: npt.NDArray[np.uint32], crowded: Places) -> None:
        """Compare rows of a crowd with their neighbours by these keys, until it is in vain."""
        if not len(crowded):
            return
        ordered, rows = _ordered(keys, crowded)
        self._rounds(ordered, rows, steps=_STEPS, patient=False)

    def _rounds(
        self, keys: npt.NDArray[np.uint64], rows: Places, *, steps: int, patient: bool = True
    ) -> None:
        for step in range(1, steps + 1):
            at = np.flatnonzero(keys[step:] == keys[:-step])
            if not len(at):
                return
            earlier, later = rows[at], rows[at + step]
            known = self.leaders[earlier] == self.leaders[later]
            wanted = ~(known & (self.like[later] != later))
            if not patient:
                wanted &= self._tries[later] < _TRIES
            self._judge(earlier[wanted], later[wanted])

    def _judge(self, earlier: Places, later: Places) -> None:
        if not len(later):
            return
        alike = self._compare(earlier, later)
        self._tries[later[~alike]] += self._tries[later[~alike]] < _TRIES
        earlier, later = earlier[alike], later[alike]
        new = self.like[later] == later
        self.like[later[new]] = earlier[new]
        join(self.leaders, earlier, later)


def join(leaders: Places, one: Places, other: Places) -> None:
    """Make one group of each pair's groups; its leader is the first of both."""
    while True:
        here, there = leaders[one], leaders[other]
        apart = here != there
        if not apart.any():
            return
        low, high = np.minimum(here, there)[apart], np.maximum(here, there)[apart]
        np.minimum.at(leaders, high, low)
        flatten(leaders)


def flatten(leaders: Places) -> None:
    """Let each row point at the leader of its leader, until all point at the first ones."""
    while True:
        above = leaders[leaders]
        if (above == leaders).all():
            return
        leaders[:] = above


def _ordered(
    keys: npt.NDArray[np.uint32], rows: Places | None
) -> tuple[npt.NDArray[np.uint64], Places]:
    """Return the keys, sorted, and the rows they belong to; rows with one key stay in order."""
    at = np.arange(len(keys), dtype=np.uint64)
    packed = np.sort((keys.astype(np.uint64) << np.uint64(32)) | at)
    places = (packed & np.uint64(2**32 - 1)).astype(np.int64)
    return packed >> np.uint64(32), places if rows is None else rows[places]
