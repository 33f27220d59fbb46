"""Fewer points of a curve without losing its spikes. Pure.

A bucket of neighbouring points gives its lowest and its highest as they were measured, so the
thinned curve touches every extreme; ``low`` and ``high`` carry the bucket's range for a band.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_PER_BUCKET = 2


@dataclass(frozen=True)
class Curve:
    """Points by step; ``low`` and ``high`` are the range that a point stands for. None is NaN."""

    step: list[int]
    value: list[float | None]
    low: list[float | None]
    high: list[float | None]


def downsample(steps: Sequence[int], values: Sequence[float | None], points: int) -> Curve:
    """Return at most ``points`` (2 or more): the first, the last, each bucket's extremes."""
    count, limit = len(steps), max(2, points)
    if count <= limit:
        return Curve(list(steps), list(values), list(values), list(values))
    chosen: list[tuple[int, float | None, float | None]] = [(0, values[0], values[0])]
    for start, end in _buckets(1, count - 1, (limit - 2) // _PER_BUCKET):
        chosen += _extremes(values, start, end)
    chosen.append((count - 1, values[-1], values[-1]))
    return Curve(
        [steps[place] for place, _, _ in chosen],
        [values[place] for place, _, _ in chosen],
        [low for _, low, _ in chosen],
        [high for _, _, high in chosen],
    )


def _buckets(start: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Cut ``[start, end)`` into ``number`` parts of nearly equal size."""
    if not number:
        return
    edges = [start + (end - start) * place // number for place in range(number + 1)]
    yield from ((first, last) for first, last in pairwise(edges) if last > first)


def _extremes(
    values: Sequence[float | None], start: int, end: int
) -> list[tuple[int, float | None, float | None]]:
    """Return places of the lowest and highest value in order, with the bucket's range."""
    known = [(value, place) for place in range(start, end) if (value := values[place]) is not None]
    if not known:
        return [(start, None, None)]
    lowest, highest = min(known), max(known)
    places = sorted({lowest[1], highest[1]})
    return [(place, lowest[0], highest[0]) for place in places]
