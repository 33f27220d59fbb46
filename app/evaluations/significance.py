"""How sure a figure is: 95 % intervals of means, ratios and paired differences. Pure.

Bootstrap over items, seeded, so that the same items give the same interval; Wilson's interval for
shares of yes and no, whose bootstrap would claim certainty where all answers agree.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RESAMPLES = 1000
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return it as report.json holds it."""
        return {"value": self.value, "low": self.low, "high": self.high}


def bootstrap(statistic: Callable[[Sequence[int]], float], n: int, *, seed: int = 0) -> Estimate:
    """Return ``statistic`` of all ``n`` places and its percentile interval over resamples."""
    places = range(n)
    chance = random.Random(seed)  # noqa: S311  # resampling, no secret
    drawn = sorted(statistic(chance.choices(places, k=n)) for _ in range(RESAMPLES))
    low, high = drawn[int(0.025 * RESAMPLES)], drawn[int(0.975 * RESAMPLES) - 1]
    return Estimate(statistic(places), low, high)


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of one value an item."""
    if all(value in (0.0, 1.0) for value in values):
        return share(int(sum(values)), len(values))
    return bootstrap(lambda at: sum(values[i] for i in at) / len(at), len(values))


def share(hits: int, n: int) -> Estimate:
    """Return hits of n, with Wilson's interval."""
    p, z = hits / n, _Z95
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def mean_difference(base: Sequence[float], tuned: Sequence[float]) -> Estimate:
    """Return the mean of tuned minus base, item by item."""
    differences = [after - before for before, after in zip(base, tuned, strict=True)]
    return bootstrap(lambda at: sum(differences[i] for i in at) / len(at), len(differences))


def _identity(value: float) -> float:
    return value


def ratio(
    sums: Sequence[float],
    weights: Sequence[float],
    *,
    through: Callable[[float], float] = _identity,
) -> Estimate:
    """Return ``through`` of the summed values over the summed weights, e.g. loss per token."""
    return bootstrap(lambda at: through(_ratio(sums, weights, at)), len(sums))


def ratio_difference(
    base: Sequence[float],
    tuned: Sequence[float],
    weights: Sequence[float],
    *,
    through: Callable[[float], float] = _identity,
) -> Estimate:
    """Return how the ratio of tuned differs from that of base over the same items."""

    def difference(at: Sequence[int]) -> float:
        return through(_ratio(tuned, weights, at)) - through(_ratio(base, weights, at))

    return bootstrap(difference, len(base))


def _ratio(sums: Sequence[float], weights: Sequence[float], at: Sequence[int]) -> float:
    return sum(sums[i] for i in at) / sum(weights[i] for i in at)
