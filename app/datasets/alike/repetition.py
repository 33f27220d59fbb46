"""The copies and near copies within a version, each beside the row that it repeats.

Reads the groups that the check wrote; knows no HTTP and nothing of how they were found.
"""

from dataclasses import dataclass

import numpy as np

from app.datasets.alike.candidates import Places
from app.datasets.alike.copies import first_alike
from app.datasets.alike.overlap import Pair
from app.datasets.alike.similarity import read_groups
from app.datasets.alike.words import likeness, worded
from app.datasets.models import DatasetVersion
from app.datasets.reading import Rows
from app.datasets.table import RowPlace
from app.kit.pagination import PageRequest, encode_cursor
from app.kit.storage import Storage


@dataclass(frozen=True)
class Groups:
    """Each row's leader, the first row of its group; ``near`` false: of copies only so far."""

    leaders: Places
    near: bool


@dataclass(frozen=True)
class Repetition:
    """A row beside the first of its group, and how many rows the group has."""

    pair: Pair
    group_rows: int


@dataclass(frozen=True)
class Repetitions:
    """A page of the rows that repeat an earlier one, by line, with true counts."""

    rows: int
    groups: int
    of: int
    complete: bool
    items: list[Repetition]
    next: str | None


def groups_of(storage: Storage, version: DatasetVersion, rows: Rows) -> Groups:
    """Return the groups of a version; of copies alone where its check has not come further."""
    if storage.exists(version.groups_key):
        with storage.open(version.groups_key) as source:
            found = read_groups(source)
        if len(found) == len(rows):
            return Groups(found.astype(np.int64), near=True)
    return Groups(first_alike(rows.table).astype(np.int64), near=False)


def repetitions(storage: Storage, version: DatasetVersion, *, page: PageRequest) -> Repetitions:
    """Return a page of the rows that repeat an earlier one."""
    with Rows.open(storage, version) as rows:
        groups = groups_of(storage, version, rows)
        later = np.flatnonzero(groups.leaders != np.arange(len(rows)))
        position = page.position(int)
        start = max(0, position[0]) if position else 0
        shown = later[start : start + page.limit]
        sizes = np.bincount(groups.leaders, minlength=len(rows))
        items = [
            Repetition(pair, int(sizes[groups.leaders[place]]))
            for place, pair in zip(shown, _pairs(rows, shown, groups.leaders), strict=True)
        ]
        end = start + len(shown)
        return Repetitions(
            rows=len(later),
            groups=int(np.count_nonzero(sizes > 1)),
            of=len(rows),
            complete=groups.near,
            items=items,
            next=encode_cursor([end]) if end < len(later) else None,
        )


def _pairs(rows: Rows, shown: Places, leaders: Places) -> list[Pair]:
    """Set each row beside its copy if it has an earlier one, else beside its group's first row."""
    if not len(shown):
        return []
    first = first_alike(rows.table)[shown].astype(np.int64)
    exact = first != shown
    others = np.where(exact, first, leaders[shown])
    here, there = ([rows.place(int(place)) for place in places] for places in (shown, others))
    alike = _likeness(rows, here, there)
    return [
        Pair(rows.example(one), rows.example(other), is_copy, 1.0 if is_copy else similarity)
        for one, other, is_copy, similarity in zip(here, there, exact.tolist(), alike, strict=True)
    ]


def _likeness(rows: Rows, here: list[RowPlace], there: list[RowPlace]) -> list[float]:
    mine, theirs = (worded([rows.turns(place) for place in places]) for places in (here, there))
    return likeness(mine, theirs).similarity.tolist()
