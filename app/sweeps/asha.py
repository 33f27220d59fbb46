"""Which runs of a sweep end early: successive halving without waiting (ASHA). Pure.

A run is judged once at each rung, by its first validation there, against the runs that came there
before: it goes on if it is among the best 1/factor of them, rounded up. Nobody waits for others, so
one card and eight work alike. A rung is a share of a run's own steps, since runs of a sweep may
have different numbers of them. Knows neither runs nor jobs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from app.runs.parts import Part

Goal = Literal["min", "max"]


class Halving(Part):
    """How soon and how sharply losing runs end."""

    factor: int = Field(
        default=3, ge=2, le=8, description="At each rung the best 1/factor of the runs go on."
    )
    rungs: int = Field(
        default=2, ge=1, le=5, description="How often: 2 with factor 3 is at 1/9 and 1/3 of a run."
    )

    @property
    def shares(self) -> tuple[float, ...]:
        """Return where the rungs are, as shares of a run, the first one first."""
        return tuple(self.factor**-place for place in range(self.rungs, 0, -1))


@dataclass(frozen=True)
class Curve:
    """A run's validation figures by step; None stands for NaN. ``total`` steps, if known."""

    total: int | None
    points: Sequence[tuple[int, float | None]]


@dataclass(frozen=True)
class Verdict:
    """What a run's figure at a rung means. ``place`` counts from 1 among ``of`` runs."""

    rung: int
    step: int
    value: float | None
    place: int
    of: int
    keeps: int

    @property
    def goes_on(self) -> bool:
        """Tell whether the run is among those that go on."""
        return self.place <= self.keeps


def reached(curve: Curve, halving: Halving) -> list[tuple[int, float | None]]:
    """Return the first (step, value) at or past each rung that a run has come to."""
    if not curve.total:
        return []
    found: list[tuple[int, float | None]] = []
    for share in halving.shares:
        # Less a hair: a third of 9 steps is step 3, whatever the last digit of 1/3 says.
        after = share * curve.total - 1e-6
        first = next((point for point in sorted(curve.points) if point[0] >= after), None)
        if first is None:
            break
        found.append(first)
    return found


def judge(run: str, curves: Mapping[str, Curve], *, halving: Halving, goal: Goal) -> Verdict | None:
    """Return how a run stands at the last rung that it came to; None before the first."""
    own = reached(curves[run], halving)
    if not own:
        return None
    rung = len(own) - 1
    there = [
        places[rung][1]
        for places in (reached(curve, halving) for curve in curves.values())
        if len(places) > rung
    ]
    step, value = own[rung]
    better = sum(cost(other, goal) < cost(value, goal) for other in there)
    keeps = math.ceil(len(there) / halving.factor)
    return Verdict(len(own), step, value, better + 1, len(there), keeps)


def cost(value: float | None, goal: Goal) -> float:
    """Return what is small where a figure is good; NaN is the worst of all."""
    if value is None or not math.isfinite(value):
        return math.inf
    return value if goal == "min" else -value


def best(curve: Curve, goal: Goal) -> tuple[int, float] | None:
    """Return a run's best (step, value), the earliest of equals; None without a figure."""
    known = [(step, value) for step, value in curve.points if value is not None]
    if not known:
        return None
    return min(known, key=lambda point: (cost(point[1], goal), point[0]))
