"""Which runs a sweep makes: points of a grid, or drawn at random, over fields of a config. Pure.

Knows neither runs nor databases, and nothing of what a field means; ``service`` checks each point
as any run is checked. The same search gives the same points in the same order.
"""

import math
import random
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Literal

from pydantic import Field, model_validator

from app.runs.parts import Part

MOST = 64  # runs of a sweep
FEWEST = 2
_TRIES = 50  # draws for each point before a small space counts as used up


class Values(Part):
    """A list to choose from."""

    values: tuple[Any, ...] = Field(
        min_length=1, max_length=MOST, description="What the field may be, of the field's own type."
    )


class Range(Part):
    """Numbers between two ends, both included; whole ones where both ends are whole."""

    low: int | float
    high: int | float
    scale: Literal["linear", "log"] = Field(
        default="linear",
        description="log: as many points below 1e-4 as above, between 1e-5 and 1e-3.",
    )
    count: int = Field(
        default=3, ge=1, le=MOST, description="Points that a grid takes; random draws anywhere."
    )

    @model_validator(mode="after")
    def _ends_in_order(self) -> "Range":
        if self.high < self.low:
            raise ValueError("low must not be above high")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("a log scale begins above 0")
        return self

    @property
    def is_whole(self) -> bool:
        """Tell whether the points are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> int | float:
        """Return the number at a share of the way: three digits, never outside the ends."""
        if self.scale == "log":
            found = math.exp(_between(math.log(self.low), math.log(self.high), share))
        else:
            found = _between(self.low, self.high, share)
        rounded = round(found) if self.is_whole else float(f"{found:.3g}")
        return min(max(rounded, self.low), self.high)

    def spread(self) -> tuple[int | float, ...]:
        """Return a grid's points, evenly apart on the scale, each once."""
        last = self.count - 1
        return tuple(dict.fromkeys(self.at(n / last if last else 0.5) for n in range(self.count)))


class Search(Part):
    """What is varied, and how."""

    method: Literal["grid", "random"] = Field(
        default="grid", description="grid: every combination. random: so many points at random."
    )
    runs: int | None = Field(
        default=None, ge=FEWEST, le=MOST, description="How many points random draws."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="The draw follows from it.")
    fields: dict[str, Values | Range] = Field(
        min_length=1,
        max_length=8,
        description="Dotted field of a run's config → {values} or {low, high, scale, count}.",
    )


class Unsearchable(Exception):
    """A search that makes no sweep; ``field`` is the part of the search to change."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


Point = Mapping[str, Any]


def points(search: Search) -> list[Point]:
    """Return what each run changes: dotted field → value. Raises ``Unsearchable``."""
    found = _grid(search) if search.method == "grid" else _random(search)
    if len(found) < FEWEST:
        raise Unsearchable("fields", "this is one run only; give a field at least two values")
    return found


def size(search: Search) -> int:
    """Return how many runs a search makes, also if they are too many."""
    if search.method == "random":
        return search.runs or 0
    return math.prod(len(_choices(space)) for space in search.fields.values())


def _grid(search: Search) -> list[Point]:
    if size(search) > MOST:
        raise Unsearchable(
            "fields",
            f"these are {size(search):,} combinations, and a sweep takes {MOST}; give fewer "
            "values, or draw at random",
        )
    spaces = [_choices(space) for space in search.fields.values()]
    return [dict(zip(search.fields, values, strict=True)) for values in product(*spaces)]


def _choices(space: Values | Range) -> tuple[Any, ...]:
    if isinstance(space, Range):
        return space.spread()
    return tuple({_key(value): value for value in space.values}.values())


def _random(search: Search) -> list[Point]:
    if search.runs is None:
        raise Unsearchable("runs", "say how many runs are drawn at random")
    draws = _draws(search)
    found: dict[object, Point] = {}
    for _ in range(search.runs * _TRIES):
        point = next(draws)
        found.setdefault(_key(point), point)
        if len(found) == search.runs:
            break
    return list(found.values())


def _draws(search: Search) -> Iterator[Point]:
    chance = random.Random(search.seed)  # noqa: S311  # points to try, no secrets
    while True:
        yield {field: _drawn(space, chance) for field, space in search.fields.items()}


def _drawn(space: Values | Range, chance: random.Random) -> Any:
    if isinstance(space, Range):
        return space.at(chance.random())
    return chance.choice(space.values)


def _key(value: Any) -> str:
    """Return what tells two values apart; 1 and true are two."""
    return repr(sorted(value.items()) if isinstance(value, Mapping) else value)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
