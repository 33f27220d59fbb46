"""How the sides of a split come to be: what each method holds out of a version's rows.

Reads the storage; knows no query, no HTTP and not whether a request or a job waits for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.datasets.alike.overlap import all_matches
from app.datasets.alike.repetition import Groups, groups_of
from app.datasets.columns import Column, column_of
from app.datasets.models import DatasetVersion
from app.datasets.reading import Rows
from app.datasets.splitting import HELD_OUT, Draw, Flags, Sides, closed, drawn, leaders_of, united
from app.datasets.table import HAS_ERROR
from app.errors import Invalid
from app.kit.storage import Storage

_MOST_PAIRS = 400_000  # compared word by word with a held-out file
_SHOWN_VALUES = 50
_READ = 0.9  # of the time, about: the rest is counting

Progress = Callable[[float, str], None]


def quiet(_share: float, _detail: str) -> None:
    """Hear of progress, and tell nobody."""


@dataclass(frozen=True)
class _Case:
    """What a method parts: the opened rows, their groups, and what else it may need to read."""

    storage: Storage
    version: DatasetVersion
    rows: Rows
    draw: Draw
    groups: Groups
    parameters: Mapping[str, Any]
    other: DatasetVersion | None = None
    progress: Progress = quiet

    def column(self) -> Column:
        """Return the column that the parameters name; it takes a look at every row."""

        def read(places: int) -> None:
            share = places / max(1, len(self.rows))
            self.progress(_READ * share, f"{places:,} of {len(self.rows):,} rows are read")

        return column_of(self.rows, self.parameters["column"], read=read)


@dataclass(frozen=True)
class _Parted:
    """The sides; those that the method alone would have chosen; the column that it looked at."""

    sides: Sides
    alone: Sides
    column: Column | None = None
    more: Mapping[str, Any] | None = None


def parted(  # what a method may need, each named at the call
    storage: Storage,
    version: DatasetVersion,
    *,
    method: str,
    parameters: Mapping[str, Any],
    other: DatasetVersion | None = None,
    progress: Progress = quiet,
) -> tuple[bytes, dict[str, Any]]:
    """Return each row's side, a byte each, and what there is to say of it.

    ``other`` is the version that is measured with, if the parameters name one. Raises ``Invalid``
    where a side would be empty.
    """
    with Rows.open(storage, version) as rows:
        case = _case(rows, storage, version=version, parameters=parameters)
        case = replace(case, other=other, progress=progress)
        made = METHODS[method](case)
        result = _result(case, made)
    _require_sides(result, method)
    return made.sides.tobytes(), result


def _case(
    rows: Rows, storage: Storage, *, version: DatasetVersion, parameters: Mapping[str, Any]
) -> _Case:
    records = rows.table.array()
    draw = Draw(
        keys=np.ascontiguousarray(records["hash"][:, 0]),
        good=records["flags"] & HAS_ERROR == 0,
        fraction=float(parameters.get("fraction", 0)),
        seed=int(parameters.get("seed", 0)),
    )
    groups = groups_of(storage, version, rows)
    if not parameters.get("keep_copies_together", True):
        groups = Groups(np.arange(len(rows)), near=groups.near)
    return _Case(storage, version, rows, draw, groups, parameters)


def _result(case: _Case, parted: _Parted) -> dict[str, Any]:
    good, held = case.draw.good, parted.sides == HELD_OUT
    counts = {
        "trained": int(np.count_nonzero(good & ~held)),
        "held_out": int(np.count_nonzero(good & held)),
        "left_out": int(np.count_nonzero(~good)),
        "moved": int(np.count_nonzero(good & (parted.sides != parted.alone))),
        "near_copies_known": case.groups.near,
        **(parted.more or {}),
    }
    if parted.column is not None:
        counts["values"] = _by_value(parted.column, case.draw, held)
    return counts


def _require_sides(counts: Mapping[str, Any], method: str) -> None:
    if not counts["trained"]:
        raise Invalid.field(
            "method",
            "no row would be left to train: all belong together with a row held out. "
            "Choose other values, or another method",
        )
    if not counts["held_out"] and method != "file":
        raise Invalid.field(
            "method",
            "no row would be held out. Choose a larger fraction, other values or another column",
        )


def _by_value(column: Column, draw: Draw, held: Flags) -> list[dict[str, Any]]:
    """Return how many rows of each value are on which side, the most frequent values first."""
    here = draw.good & (column.numbers >= 0)
    counts = [
        np.bincount(column.numbers[here & side], minlength=len(column.labels))
        for side in (~held, held)
    ]
    order = np.argsort(-(counts[0] + counts[1]), kind="stable")[:_SHOWN_VALUES]
    return [
        {"value": column.labels[at], "trained": int(counts[0][at]), "held_out": int(counts[1][at])}
        for at in order.tolist()
    ]


def _random(case: _Case) -> _Parted:
    alone = drawn(case.draw, np.arange(len(case.rows)))
    return _Parted(drawn(case.draw, case.groups.leaders), alone)


def _stratified(case: _Case) -> _Parted:
    column = case.column()
    draw = Draw(case.draw.keys, case.draw.good, case.draw.fraction, case.draw.seed, column.numbers)
    alone = drawn(draw, np.arange(len(case.rows)))
    return _Parted(drawn(draw, case.groups.leaders), alone, column)


def _group(case: _Case) -> _Parted:
    column = case.column()
    groups = leaders_of(column.numbers)
    sides = drawn(case.draw, united(groups, case.groups.leaders))
    return _Parted(sides, drawn(case.draw, groups))


def _column(case: _Case) -> _Parted:
    column = case.column()
    words = {word.casefold() for word in case.parameters["held_out"]}
    chosen = [at for at, label in enumerate(column.labels) if label.casefold() in words]
    if not chosen:
        shown = ", ".join(label[:40] for label in column.labels[:8])
        raise Invalid.field("held_out", f"no row has one of these values; there are: {shown}")
    alone = np.isin(column.numbers, chosen).astype(np.uint8)
    return _Parted(closed(alone, case.groups.leaders), alone, column)


def _file(case: _Case) -> _Parted:
    other = case.other
    assert other is not None
    found = all_matches(case.storage, case.version, other, most_pairs=_MOST_PAIRS)
    alone = (found.others >= 0).astype(np.uint8)
    more = {
        "of_file": other.examples,
        "exact": int(np.count_nonzero(found.exact)),
        "complete": found.complete,
    }
    return _Parted(closed(alone, case.groups.leaders), alone, more=more)


METHODS: Mapping[str, Callable[[_Case], _Parted]] = {
    "random": _random,
    "column": _column,
    "group": _group,
    "stratified": _stratified,
    "file": _file,
}
