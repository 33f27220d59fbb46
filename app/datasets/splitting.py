"""Which rows are held out: a pure function of what rows say, of parameters and of a seed.

Rows are parted unit by unit: what belongs together (copies, near copies, rows of one group) goes
to one side. A unit is drawn by the smallest of its rows' mixed hashes, so the order of rows does
not matter and a changed row moves few others. Knows numbers only: places, hashes, leaders.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.datasets.alike.candidates import Places, flatten, join
from app.datasets.mixing import Keys, mix

HELD_OUT = 1
Sides = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Draw:
    """What a draw is made from: each row's hash and whether it can be trained; share and seed.

    ``strata`` numbers the rows' kinds, each of which gives its share.
    """

    keys: Keys
    good: Flags
    fraction: float
    seed: int
    strata: Places | None = None


def united(one: Places, other: Places) -> Places:
    """Return the leaders of the smallest units that part neither of two ways to group rows.

    A way to group gives each row the place of the first row of its group.
    """
    leaders = np.arange(len(one))
    join(leaders, leaders.copy(), one)
    join(leaders, np.arange(len(one)), other)
    flatten(leaders)
    return leaders


def leaders_of(values: Places) -> Places:
    """Return for each row the first place with the same value; its own where that is negative."""
    leaders = np.arange(len(values))
    known = np.flatnonzero(values >= 0)
    _, first, at = np.unique(values[known], return_index=True, return_inverse=True)
    leaders[known] = known[first][at]
    return leaders


def drawn(draw: Draw, units: Places) -> Sides:
    """Hold out about the share asked for, at least one unit if there are two; no unit is parted."""
    sides = np.zeros(len(units), dtype=np.uint8)
    rows = np.flatnonzero(draw.good)
    names, first, unit = np.unique(units[rows], return_index=True, return_inverse=True)
    if draw.fraction <= 0 or len(names) < 2:  # noqa: PLR2004  # one unit cannot be parted
        return sides
    sizes = np.bincount(unit)
    keys = np.full(len(names), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(keys, unit, mix(draw.keys[rows], draw.seed))
    kinds = np.zeros(len(names), dtype=np.int64)
    if draw.strata is not None:
        kinds = np.unique(draw.strata[rows][first], return_inverse=True)[1]
    order = np.lexsort((keys, kinds))
    taken = _taken(sizes[order], kinds[order], draw.fraction)
    if not taken.any():
        taken[np.argmin(sizes[order])] = True
    chosen = np.zeros(len(names), dtype=np.bool_)
    chosen[order[taken]] = True
    sides[np.isin(units, names[chosen])] = HELD_OUT
    return sides


def _taken(sizes: Places, kinds: Places, fraction: float) -> Flags:
    """Take units in order, of each kind its share, passing over those that are too large."""
    quotas = _quotas(np.bincount(kinds, weights=sizes).astype(np.float64), fraction).tolist()
    taken = np.zeros(len(sizes), dtype=np.bool_)
    starts = np.searchsorted(kinds, np.arange(len(quotas) + 1)).tolist()
    for kind, left in enumerate(quotas):
        for at in range(starts[kind], starts[kind + 1]):
            if not left:
                break
            if sizes[at] <= left:
                taken[at] = True
                left -= int(sizes[at])  # noqa: PLW2901  # counts down
    return taken


def _quotas(totals: npt.NDArray[np.float64], fraction: float) -> Places:
    """Return whole numbers near ``totals × fraction`` whose sum is near that of all, by rests."""
    exact = totals * fraction
    quotas = np.floor(exact).astype(np.int64)
    wanted = min(max(1, round(float(exact.sum()))), int(totals.sum()) - 1)
    rest = wanted - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[: max(0, rest)]] += 1
    return np.minimum(quotas, totals.astype(np.int64))


def closed(sides: Sides, units: Places) -> Sides:
    """Hold out every row of a unit of which one is held out."""
    held = np.unique(units[sides == HELD_OUT])
    return np.isin(units, held).astype(np.uint8)
