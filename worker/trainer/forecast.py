"""When a run will end, from the time that a few of its batches took. Pure.

A step takes a fixed time and one for each of its positions; so many steps as the run has, with
their own sizes, are summed up. Knows neither torch nor clocks.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from worker.trainer import plan

Row = Sequence[Sized]  # examples of so many tokens
Positions = Callable[[Sequence[Row]], int]


@dataclass(frozen=True)
class Pace:
    """Seconds of a step: ``base`` and so much for each position."""

    base: float
    each: float

    def of(self, positions: int) -> float:
        """Return the seconds of a step of so many positions."""
        return self.base + self.each * positions


def fitted(points: Sequence[tuple[int, float]]) -> Pace:
    """Return the pace that fits (positions, seconds) best; neither part is below zero."""
    count = len(points)
    mean_x, mean_y = (sum(point[side] for point in points) / count for side in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return Pace(0.0, mean_y / mean_x if mean_x else 0.0)
    each = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    if each <= 0:
        return Pace(mean_y, 0.0)
    base = mean_y - each * mean_x
    return Pace(base, each) if base >= 0 else Pace(0.0, mean_y / mean_x)


def tokens(row: Row) -> int:
    """Return the tokens of a row."""
    return sum(len(example) for example in row)


def padded(rows: Sequence[Row]) -> int:
    """Return the positions of a batch whose examples are filled up to the longest."""
    lengths = [len(example) for row in rows for example in row]
    return len(lengths) * max(lengths)


def unpadded(rows: Sequence[Row]) -> int:
    """Return the positions of a batch without padding."""
    return sum(tokens(row) for row in rows)


@dataclass(frozen=True)
class Schedule:
    """What of the spec decides which rows share a batch."""

    steps: int
    batch_size: int
    rows_in_step: int
    seed: int


def batches(rows: Sequence[Any], schedule: Schedule, step: int) -> list[list[Any]]:
    """Return the micro-batches of step ``step`` (from 0)."""
    chosen = plan.rows_of_step(
        step, rows=len(rows), rows_in_step=schedule.rows_in_step, seed=schedule.seed
    )
    size = schedule.batch_size
    return [
        [rows[place] for place in chosen[start : start + size]]
        for start in range(0, len(chosen), size)
    ]


def heaviest(rows: Sequence[Row], size: int) -> list[int]:
    """Return the places of the largest batch that chance may bring together: the longest rows."""
    return sorted(range(len(rows)), key=lambda place: tokens(rows[place]), reverse=True)[:size]


def positions_of_step(
    rows: Sequence[Row], schedule: Schedule, step: int, positions: Positions
) -> int:
    """Return the positions of a step's micro-batches."""
    return sum(positions(batch) for batch in batches(rows, schedule, step))


def seconds_of_steps(
    rows: Sequence[Row], schedule: Schedule, *, pace: Pace, positions: Positions
) -> float:
    """Return the seconds of all steps.

    The first epoch is summed up step by step, the others cost the same but for their order.
    """
    in_epoch = plan.steps_in_epoch(len(rows), schedule.rows_in_step)
    looked = min(schedule.steps, in_epoch)
    found = sum(
        pace.of(positions_of_step(rows, schedule, step, positions)) for step in range(looked)
    )
    return found * schedule.steps / looked


def tokens_of_steps(rows: Sequence[Row], schedule: Schedule) -> float:
    """Return the tokens that all steps train, padding left out."""
    in_epoch = plan.steps_in_epoch(len(rows), schedule.rows_in_step)
    return unpadded(rows) * schedule.steps / in_epoch
