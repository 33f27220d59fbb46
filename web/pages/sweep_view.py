"""The picture of a sweep: parallel coordinates, an axis a field and one for the figure. Pure.

Numbers and path texts only; the template draws them. The best run is marked, those that were ended
early are dashed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.sweeps.grid import Range
from app.sweeps.service import Line, SweepView
from web.filters import loss
from web.svg import Scale, path

WIDTH, HEIGHT, MARGIN, TOP, BOTTOM = 1000.0, 240.0, 90.0, 44.0, 20.0
_LABELLED = 6  # values of an axis that are all written, of more the ends
WIDE = 20  # times between the ends of a list, from which its axis is logarithmic


@dataclass(frozen=True)
class Tick:
    """A label on an axis."""

    y: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A vertical axis at ``x``."""

    x: float
    name: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Trace:
    """A run's way over the axes."""

    line: Line
    d: str
    words: str
    is_best: bool


@dataclass(frozen=True)
class Picture:
    """Axes and traces in a box of ``width`` × ``height``; the best trace lies on top."""

    axes: tuple[Axis, ...]
    traces: tuple[Trace, ...]
    width: float = WIDTH
    height: float = TOP + HEIGHT + BOTTOM
    top: float = TOP
    bottom: float = TOP + HEIGHT


@dataclass(frozen=True)
class _Places:
    """Where an axis has its values: ``y`` by value, and its labels."""

    name: str
    values: dict[str, float]
    ticks: tuple[Tick, ...]

    def y(self, value: Any) -> float:
        return self.values[repr(value)]


def picture(view: SweepView) -> Picture | None:
    """Return the picture; None until a run has a figure, for then there is nothing to compare."""
    measured = [line for line in view.lines if line.value is not None]
    if not measured:
        return None
    fields = [field for field in view.search.fields if len(_distinct(view.lines, field)) > 1]
    columns = [_of_field(view, field, measured) for field in fields]
    columns.append(_of_figure(view, measured))
    step = (WIDTH - 2 * MARGIN) / (len(columns) - 1) if len(columns) > 1 else 0
    xs = [round(MARGIN + place * step, 1) for place in range(len(columns))]
    traces = [_trace(line, fields, columns, xs, best=view.winner) for line in measured]
    traces.sort(key=lambda trace: trace.is_best)
    axes = tuple(Axis(x, one.name, one.ticks) for x, one in zip(xs, columns, strict=True))
    return Picture(axes, tuple(traces))


def _distinct(lines: Sequence[Line], field: str) -> set[str]:
    return {repr(line.member.entry.values.get(field)) for line in lines}


def _of_field(view: SweepView, field: str, lines: Sequence[Line]) -> _Places:
    values = [line.member.entry.values.get(field) for line in lines]
    space, name = view.search.fields[field], field.rpartition(".")[2]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        is_log = space.scale == "log" if isinstance(space, Range) else _is_wide(values)
        return _numeric(f"{name} (log)" if is_log else name, values, is_log=is_log)
    known = sorted({repr(value): str(value) for value in values}.items(), key=lambda one: one[1])
    scale = Scale(0, max(1, len(known) - 1), HEIGHT)
    placed = {key: round(TOP + scale(place), 1) for place, (key, _) in enumerate(known)}
    return _Places(name, placed, tuple(Tick(placed[key], text) for key, text in known))


def _of_figure(view: SweepView, lines: Sequence[Line]) -> _Places:
    """Return the figure's axis: the best end is below, as in a curve of a loss, or above."""
    values = [line.value for line in lines if line.value is not None]
    places = _numeric(view.sweep.metric, values, is_log=False)
    ends = [Tick(places.y(end), loss(end)) for end in dict.fromkeys((max(values), min(values)))]
    return _Places(places.name, places.values, tuple(ends))


def _numeric(name: str, values: Sequence[Any], *, is_log: bool) -> _Places:
    turn = math.log if is_log else float
    low, high = min(values), max(values)
    scale = Scale(turn(low), turn(high), HEIGHT, is_upward=True)
    placed = {repr(value): round(TOP + scale(turn(value)), 1) for value in values}
    known = sorted(set(values))
    written = known if len(known) <= _LABELLED else [low, high]
    ticks = tuple(Tick(placed[repr(value)], f"{value:g}") for value in written)
    return _Places(name, placed, ticks)


def _is_wide(values: Sequence[Any]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= WIDE


def _trace(
    line: Line,
    fields: Sequence[str],
    columns: Sequence[_Places],
    xs: Sequence[float],
    *,
    best: Line | None,
) -> Trace:
    values = line.member.entry.values
    ys = [one.y(values.get(field)) for field, one in zip(fields, columns, strict=False)]
    ys.append(columns[-1].y(line.value))
    places = list(zip(xs, ys, strict=True))
    same = Scale(0, WIDTH, WIDTH)
    tall = Scale(0, TOP + HEIGHT, TOP + HEIGHT)
    said = ", ".join(f"{field.rpartition('.')[2]} {values.get(field)}" for field in fields)
    words = f"{line.member.run.name}: {said}, {columns[-1].name} {loss(line.value)}"
    return Trace(line, path(places, same, tall), words, is_best=line is best)
