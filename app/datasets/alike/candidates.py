"""Which rows read almost as an earlier one, and which belong together. Pure.

Rows that share a band with few others are all compared with them. In a crowd, where many rows share
a band, a row is compared with neighbours that share a second band, the most promising ones first:
those that share many. A pair whose rows are known to belong together is passed over, so a thousand
rows of one text cost about a thousand comparisons.
"""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt

from app.datasets.alike.minhash import BANDS, folded

_CROWD = 8  # rows that share a band; up to so many, all are compared
# What a crowd may cost, shared by its rows: pairs whose bands are compared, and whose words are.
_LOOKS, _COMPARISONS = 100_000_000, 3_000_000
_STEPS = (1, 1000)  # how far away a neighbour in a crowd may stand
_TRIES = (4, 250)  # how often a row of a crowd is compared in vain
_STRONG = 4  # shared bands at which a pair of a large crowd is compared at once

Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Compare = Callable[[Places, Places], Flags]


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

    def run(self, progress: Callable[[float], None]) -> None:
        """Compare; ``progress`` hears the share done (0 to 1)."""
        for band in range(BANDS):
            self._few(band)
            progress(0.3 * (band + 1) / BANDS)
        rows = np.flatnonzero(self._crowded)
        if len(rows):
            crowd = _Crowd(self, rows, np.ascontiguousarray(self._bands[:, rows].T))
            crowd.run(lambda share: progress(0.3 + 0.7 * share))

    def _few(self, band: int) -> None:
        """Compare all rows that share a band with few others; note the other ones."""
        keys, rows = _ordered(self._bands[band])
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        sizes = np.diff(np.append(starts, len(keys)))
        size = np.repeat(sizes, sizes)
        self._crowded[rows[size > _CROWD]] = True
        few = np.flatnonzero((size > 1) & (size <= _CROWD))
        for earlier, later in neighbours(keys[few], rows[few], _CROWD - 1):
            self.judge(earlier, later)

    def judge(self, earlier: Places, later: Places) -> Places:
        """Compare pairs that are not known to belong together; return those compared in vain."""
        open_pairs = np.flatnonzero(self.is_open(earlier, later))
        earlier, later = earlier[open_pairs], later[open_pairs]
        alike = self._compare(earlier, later) if len(later) else np.empty(0, dtype=np.bool_)
        vain = open_pairs[~alike]
        earlier, later = earlier[alike], later[alike]
        new = self.like[later] == later
        self.like[later[new]] = earlier[new]
        join(self.leaders, earlier, later)
        return vain

    def is_open(self, earlier: Places, later: Places) -> Flags:
        """Tell of which pairs a comparison would say something new."""
        known = self.leaders[earlier] == self.leaders[later]
        return ~known | (self.like[later] == later)


class _Crowd:
    """Rows that share a band with many: ``rows``, and the bands of each (rows × 12)."""

    def __init__(self, of: Candidates, rows: Places, bands: npt.NDArray[np.uint32]) -> None:
        self._of, self._rows, self._bands = of, rows, bands
        self._pairs = list(combinations(range(BANDS), 2))
        self._steps = _within(_LOOKS // (len(self._pairs) * len(rows)), _STEPS)
        self._most_tries = _within(_COMPARISONS // len(rows), _TRIES)
        self._tries = np.zeros(len(rows), dtype=np.uint8)
        self._best = np.zeros(len(rows), dtype=np.uint8)  # bands shared with the next best row
        self._next_best: Places = np.arange(len(rows))

    def run(self, progress: Callable[[float], None]) -> None:
        for done, pair in enumerate(self._pairs, start=1):
            keys, rows = _ordered(folded(self._bands[:, pair].astype(np.uint64)))
            for earlier, later in neighbours(keys, rows, self._steps):
                self._look(earlier, later)
            progress(done / len(self._pairs))
        later = np.flatnonzero(self._best)
        self._of.judge(self._rows[self._next_best[later]], self._rows[later])

    def _look(self, earlier: Places, later: Places) -> None:
        wanted = self._of.is_open(self._rows[earlier], self._rows[later])
        wanted &= self._tries[later] < self._most_tries
        earlier, later = earlier[wanted], later[wanted]
        shared = np.count_nonzero(self._bands[earlier] == self._bands[later], axis=1)
        # Where there are tries for all, all are compared at once.
        strong = shared >= (_STRONG if self._most_tries < max(_TRIES) else 2)
        vain = self._of.judge(self._rows[earlier[strong]], self._rows[later[strong]])
        self._tries[later[strong][vain]] += 1
        better = ~strong & (shared > self._best[later])
        self._best[later[better]] = shared[better]
        self._next_best[later[better]] = earlier[better]


def _within(value: int, bounds: tuple[int, int]) -> int:
    return min(max(value, bounds[0]), bounds[1])


def neighbours(
    keys: npt.NDArray[np.uint64], rows: Places, steps: int
) -> Iterator[tuple[Places, Places]]:
    """Yield (earlier, later) rows of one key, up to ``steps`` apart; each row is later once."""
    for step in range(1, steps + 1):
        at = np.flatnonzero(keys[step:] == keys[:-step])
        if not len(at):
            return
        yield rows[at], rows[at + step]


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


def _ordered(keys: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint64], Places]:
    """Return the keys, sorted, and the rows they belong to; rows with one key stay in order."""
    at = np.arange(len(keys), dtype=np.uint64)
    packed = np.sort((keys.astype(np.uint64) << np.uint64(32)) | at)
    return packed >> np.uint64(32), (packed & np.uint64(2**32 - 1)).astype(np.int64)
