"""Whether a paired difference is more than chance, and what the items could have shown. Pure.

Yes or no is judged by McNemar's exact test, other scores by the bootstrap over items, from 100
items on by the normal distribution of their mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.evaluations import significance

Z_TWO_SIDED, Z_POWER = 1.96, 0.8416  # 5 % error, 80 % power
NORMAL_FROM = 100


@dataclass(frozen=True)
class Tested:
    """An interval of 95 %, the test's name and, where it has one, its p-value."""

    name: str
    low: float
    high: float
    p_value: float | None


def of_shares(gained: int, lost: int, n: int) -> Tested:
    """Judge yes and no: how many of ``n`` items were gained and lost."""
    low, high = difference_of_shares(gained, lost, n)
    return Tested("mcnemar", low, high, mcnemar(gained, lost))


def of_means(differences: Sequence[float]) -> Tested:
    """Judge the mean of scores' differences, one an item."""
    n = len(differences)
    if n < NORMAL_FROM:
        found = significance.mean_difference([0.0] * n, differences)
        return Tested("bootstrap", found.low, found.high, None)
    middle = sum(differences) / n
    error = math.sqrt(sum((one - middle) ** 2 for one in differences) / (n - 1) / n)
    p_value = math.erfc(abs(middle) / error / math.sqrt(2)) if error else float(middle == 0)
    reach = Z_TWO_SIDED * error
    return Tested("normal", middle - reach, middle + reach, p_value)


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value that as many were gained as lost."""
    changed, fewer = gained + lost, min(gained, lost)
    if not changed:
        return 1.0
    tail = sum(math.comb(changed, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**changed)


def difference_of_shares(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a paired difference of shares (Agresti and Min, 2005).

    Half an item is added to each of the four cells, so that few changes claim no certainty.
    """
    more, less, total = gained + 0.5, lost + 0.5, n + 2.0
    middle = (more - less) / total
    spread = math.sqrt(max(0.0, (more + less) - (more - less) ** 2 / total)) / total
    return max(-1.0, middle - Z_TWO_SIDED * spread), min(1.0, middle + Z_TWO_SIDED * spread)


def detectable(differences: Sequence[float]) -> float | None:
    """Return the smallest mean difference that so many items show 4 times in 5, or None.

    By the spread of the differences seen; where there is none it takes one changed item.
    """
    n = len(differences)
    if n < 2:  # noqa: PLR2004  # no spread
        return None
    middle = sum(differences) / n
    variance = sum((one - middle) ** 2 for one in differences) / (n - 1)
    return (Z_TWO_SIDED + Z_POWER) * math.sqrt(max(variance, 1 / n) / n)
