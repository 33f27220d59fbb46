"""What changed from one version of a dataset to another: rows added, removed and changed.

Rows are the same if their hashes are, the first with the first and so on; where they stand does
not matter. A changed row is a removed and an added one in the same gap between rows that stayed,
paired in order. Knows no HTTP.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import xxhash

from app.datasets.alike.candidates import Places
from app.datasets.alike.kept import Arrays, kept
from app.datasets.models import DatasetVersion
from app.datasets.reading import Example, Rows
from app.errors import Invalid
from app.kit.pagination import PageRequest, encode_cursor
from app.kit.storage import Storage

Kind = Literal["added", "removed", "changed"]
KINDS: tuple[Kind, ...] = ("removed", "added", "changed")
_NONE = -1
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Change:
    """One row that differs: as it was, as it is."""

    kind: Kind
    before: Example | None
    after: Example | None


@dataclass(frozen=True)
class Difference:
    """A page of changes in the order of the file, with true counts of all."""

    added: int
    removed: int
    changed: int
    same: int
    items: list[Change]
    next: str | None


@dataclass(frozen=True)
class Changes:
    """All changes by place: ``kinds`` are places in ``KINDS``; ``NONE`` where a side has no row."""

    kinds: npt.NDArray[np.uint8]
    before: Places
    after: Places
    same: int


def difference(
    storage: Storage,
    before: DatasetVersion,
    after: DatasetVersion,
    *,
    kind: Kind | None,
    page: PageRequest,
) -> Difference:
    """Return a page of what changed from ``before`` to ``after``, of one kind or of all."""
    if before.id == after.id:
        raise Invalid.field("to", "this is the same version; name two different ones")
    with Rows.open(storage, before) as old, Rows.open(storage, after) as new:
        found = kept(storage, "difference", (before, after), lambda: _made(old, new))
        kinds, was, now = (found[name] for name in ("kinds", "before", "after"))
        counts = np.bincount(kinds, minlength=len(KINDS)).tolist()
        chosen = (
            np.arange(len(kinds)) if kind is None else np.flatnonzero(kinds == KINDS.index(kind))
        )
        position = page.position(int)
        start = max(0, position[0]) if position else 0
        shown = chosen[start : start + page.limit].tolist()
        items = [
            Change(KINDS[kinds[at]], _example(old, int(was[at])), _example(new, int(now[at])))
            for at in shown
        ]
        end = start + len(shown)
        return Difference(
            removed=counts[0],
            added=counts[1],
            changed=counts[2],
            same=int(found["same"]),
            items=items,
            next=encode_cursor([end]) if end < len(chosen) else None,
        )


def _example(rows: Rows, place: int) -> Example | None:
    return None if place == _NONE else rows.example(rows.place(place))


def _made(old: Rows, new: Rows) -> Arrays:
    found = changes(_hashes(old), _hashes(new))
    return {
        "kinds": found.kinds,
        "before": found.before,
        "after": found.after,
        "same": np.array(found.same),
    }


def _hashes(rows: Rows) -> Hashes:
    """Return each row's hash; of what is no object, one over its bytes."""
    hashes = rows.table.array()["hash"].copy()
    for place in np.flatnonzero(~(hashes != 0).any(axis=1)).tolist():
        digest = xxhash.xxh3_128_digest(rows.data(rows.place(place)))
        hashes[place] = np.frombuffer(digest, dtype=np.uint64)
    return hashes


def changes(old: Hashes, new: Hashes) -> Changes:
    """Return what differs between two lists of hashes (rows × 2)."""
    partners = _partners(old, new)
    theirs = np.full(len(new), _NONE, dtype=np.int64)
    stayed = np.flatnonzero(partners != _NONE)
    theirs[partners[stayed]] = stayed
    removed, added = np.flatnonzero(partners == _NONE), np.flatnonzero(theirs == _NONE)
    # A gap is named by the row before it that stayed, by its place in the new version.
    gap_of_removed = _last_before(partners)[removed]
    gap_of_added = _last_before(np.where(theirs == _NONE, _NONE, np.arange(len(new))))[added]
    one, other = _numbered(gap_of_removed), _numbered(gap_of_added)
    _, in_removed, in_added = np.intersect1d(one, other, assume_unique=True, return_indices=True)
    parts: list[tuple[int, Places | None, Places | None, Places]] = [
        (2, removed[in_removed], added[in_added], gap_of_removed[in_removed]),
        (0, np.delete(removed, in_removed), None, np.delete(gap_of_removed, in_removed)),
        (1, None, np.delete(added, in_added), np.delete(gap_of_added, in_added)),
    ]
    return _in_order(parts, same=len(stayed))


def _partners(old: Hashes, new: Hashes) -> Places:
    """Return for each old row the new row that is the same, or ``NONE``: first with first."""
    both = np.concatenate([old, new])
    order = np.lexsort((both[:, 1], both[:, 0]))  # stable: old before new, each in order
    ordered = both[order]
    begins = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[: len(order)]
    content = np.cumsum(begins)
    is_new = order >= len(old)
    partners = np.full(len(old), _NONE, dtype=np.int64)
    here, there = _numbered(content[~is_new]), _numbered(content[is_new])
    _, at, of = np.intersect1d(here, there, assume_unique=True, return_indices=True)
    partners[order[~is_new][at]] = order[is_new][of] - len(old)
    return partners


def _numbered(groups: Places) -> npt.NDArray[np.uint64]:
    """Return unique numbers: of the group, and of the item within it, in order."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    places = np.arange(len(ordered))
    begins = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    within = np.empty(len(groups), dtype=np.uint64)
    within[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
    return ((groups + 1).astype(np.uint64) << np.uint64(32)) | within


def _last_before(values: Places) -> Places:
    """Return for each place the last value before it that is not ``NONE``."""
    places = np.where(values == _NONE, _NONE, np.arange(len(values)))
    last = np.maximum.accumulate(places) if len(places) else places
    return np.where(last == _NONE, _NONE, values[last])


def _in_order(
    parts: list[tuple[int, Places | None, Places | None, Places]], *, same: int
) -> Changes:
    kinds = np.repeat([kind for kind, *_ in parts], [len(gap) for *_, gap in parts])
    before = np.concatenate([_or_none(was, gap) for _, was, _, gap in parts])
    after = np.concatenate([_or_none(now, gap) for _, _, now, gap in parts])
    gaps = np.concatenate([gap for *_, gap in parts])
    # Within a gap: changed rows first, in order, then what is left of either side.
    rank = np.array([1, 2, 0])[kinds]
    order = np.lexsort((after, before, rank, gaps))
    return Changes(kinds[order].astype(np.uint8), before[order], after[order], same)


def _or_none(places: Places | None, gap: Places) -> Places:
    return np.full(len(gap), _NONE, dtype=np.int64) if places is None else places
