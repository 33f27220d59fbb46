"""Rows that two versions share, each beside the other: a training set and a set to measure with.

``matching`` finds them; here they are kept, paged and read. Knows no HTTP.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from app.datasets.alike.kept import Arrays, kept
from app.datasets.alike.matching import Matches, Side, matches
from app.datasets.alike.minhash import BANDS
from app.datasets.models import DatasetVersion
from app.datasets.reading import Example, Rows
from app.errors import Invalid
from app.kit.pagination import PageRequest, encode_cursor
from app.kit.storage import Storage

MOST_PAIRS = 40_000  # compared word by word in one request: some seconds


@dataclass(frozen=True)
class Pair:
    """Two rows that are equal or almost, with what both say."""

    row: Example
    other: Example
    exact: bool
    similarity: float


@dataclass(frozen=True)
class Overlap:
    """A page of the rows of one version that another one has too, with true counts.

    ``complete`` false: near matches may be missing, since there were too many rows to compare or a
    version's near duplicates are not known yet.
    """

    exact: int
    near: int
    of: int
    complete: bool
    items: list[Pair]
    next: str | None


def overlap(
    storage: Storage, version: DatasetVersion, other: DatasetVersion, *, page: PageRequest
) -> Overlap:
    """Return a page of the rows of ``version`` that equal or almost equal one of ``other``."""
    if version.id == other.id:
        raise Invalid.field("with", "this is the same version; /repeats lists its own copies")
    with Rows.open(storage, version) as rows, Rows.open(storage, other) as theirs:
        found = kept(storage, "overlap", (version, other), lambda: _made(storage, version, other))
        position = page.position(int)
        start = max(0, position[0]) if position else 0
        end = min(start + page.limit, len(found["places"]))
        items = [
            Pair(
                rows.example(rows.place(int(found["places"][at]))),
                theirs.example(theirs.place(int(found["others"][at]))),
                bool(found["exact"][at]),
                float(found["similarity"][at]),
            )
            for at in range(start, end)
        ]
        exact = int(np.count_nonzero(found["exact"]))
        return Overlap(
            exact=exact,
            near=len(found["places"]) - exact,
            of=len(rows),
            complete=bool(found["complete"]),
            items=items,
            next=encode_cursor([end]) if end < len(found["places"]) else None,
        )


def _made(storage: Storage, version: DatasetVersion, other: DatasetVersion) -> Arrays:
    found = all_matches(storage, version, other, most_pairs=MOST_PAIRS)
    places = found.places
    return {
        "places": places,
        "others": found.others[places],
        "exact": found.exact[places],
        "similarity": found.similarity[places],
        "complete": np.array(found.complete),
    }


def all_matches(
    storage: Storage, version: DatasetVersion, other: DatasetVersion, *, most_pairs: int
) -> Matches:
    """Return for each row of ``version`` which row of ``other`` it equals or almost equals."""
    with _side(storage, version) as here, _side(storage, other) as there:
        return matches(here, there, most_pairs=most_pairs)


@contextmanager
def _side(storage: Storage, version: DatasetVersion) -> Iterator[Side]:
    with Rows.open(storage, version) as rows:
        bands = None
        if storage.exists(version.bands_key):
            with storage.open(version.bands_key) as source:
                bands = np.frombuffer(source.read(), dtype="<u4").reshape(-1, BANDS)
        yield Side(rows, bands)
