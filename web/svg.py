"""Geometry of server-drawn pictures: sparklines, bars, interval plots. Pure.

Returns numbers and path texts for attributes; templates put them into ``<svg>``. Nothing here
makes HTML, and no picture needs a script or an inline style.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """Maps values between ``low`` and ``high`` to 0…``length``, backwards for a y axis."""

    low: float
    high: float
    length: float
    is_upward: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of ``value``, cut to the ends."""
        span = self.high - self.low
        share = 0.5 if span <= 0 else min(1.0, max(0.0, (value - self.low) / span))
        return round(self.length * (1 - share if self.is_upward else share), 1)


def finite(points: Points) -> list[tuple[float, float]]:
    """Return the points that can be drawn."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def path(points: Points, across: Scale, up: Scale) -> str:
    """Return the ``d`` of a line through ``points``; empty if there are none."""
    places = [f"{across(x)} {up(y)}" for x, y in finite(points)]
    return "M" + " L".join(places) if places else ""


def smoothed(points: Points, weight: float = 0.7) -> Iterator[tuple[float, float]]:
    """Yield ``points`` with a moving average, corrected for its start."""
    mean = mass = 0.0
    for x, y in finite(points):
        mean, mass = weight * mean + (1 - weight) * y, weight * mass + (1 - weight)
        yield x, mean / mass


@dataclass(frozen=True)
class Spark:
    """A small curve in a box of 100 × 30: training, its area, validation."""

    train: str
    area: str
    validation: str


def spark(
    train: Points, validation: Points = (), *, last_x: float | None = None, height: float = 30
) -> Spark | None:
    """Draw loss curves; ``last_x`` (the total steps) leaves room for what is to come."""
    shown, dotted = finite(train), finite(validation)
    everything = shown + dotted
    if len(shown) < 2:  # noqa: PLR2004  # one point is no curve
        return None
    across = Scale(min(x for x, _ in everything), last_x or max(x for x, _ in everything), 100)
    ys = sorted(y for _, y in everything)
    up = Scale(ys[0], ys[-1], height - 4, is_upward=True)
    line = path(shown, across, up)
    area = f"{line} L{across(shown[-1][0])} {height} L{across(shown[0][0])} {height} Z"
    return Spark(train=line, area=area, validation=path(dotted, across, up))


@dataclass(frozen=True)
class Piece:
    """A part of a bar in percent of its length, with a fill class."""

    start: float
    width: float
    fill: str


def bar(parts: Sequence[tuple[float, str]], total: float, *, gap: float = 0.4) -> list[Piece]:
    """Return the pieces of a bar of ``total``, a hair apart, cut where it is full."""
    pieces: list[Piece] = []
    start = 0.0
    for value, fill in parts:
        width = min(100 - start, 100 * value / total) if total > 0 else 0.0
        if width <= 0:
            continue
        pieces.append(Piece(round(start, 2), round(width, 2), fill))
        start += width + (gap if len(parts) > 1 else 0)
    return pieces


@dataclass(frozen=True)
class Interval:
    """A value with its interval on a common scale, in percent from the left."""

    low: float
    point: float
    high: float


@dataclass(frozen=True)
class IntervalPlot:
    """Intervals on one scale, and where the zero line stands (None if it is not in sight)."""

    zero: float | None
    intervals: list[Interval]


def intervals(values: Sequence[tuple[float, float, float]], *, margin: float = 8) -> IntervalPlot:
    """Place (low, value, high) triples on one scale that contains 0."""
    numbers = [number for triple in values for number in triple if math.isfinite(number)] + [0.0]
    inner = Scale(min(numbers), max(numbers), 100 - 2 * margin)

    def place(value: float) -> float:
        return round(inner(value) + margin, 1)

    return IntervalPlot(
        zero=place(0.0), intervals=[Interval(place(a), place(b), place(c)) for a, b, c in values]
    )


def shares(values: Sequence[float], *, height: float) -> list[tuple[float, float, float, float]]:
    """Return (x %, y, width %, height) of a histogram's bars, the tallest as high as ``height``."""
    top = max(values, default=0)
    if top <= 0:
        return []
    width = 100 / len(values)
    tall = [round(height * value / top, 1) for value in values]
    return [
        (round(place * width, 2), round(height - h, 1), round(width * 0.9, 2), h)
        for place, h in enumerate(tall)
    ]
