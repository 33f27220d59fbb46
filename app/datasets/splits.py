"""Splits of a version: which rows are held out, stored so that runs compared used the same ones.

Rows that are copies or near copies of each other stay on one side, whatever the method; rows with
errors are on no side that counts. How rows are drawn is ``splitting``. Knows no HTTP.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.roles import Actor, require_owner, require_write
from app.datasets import repository, service
from app.datasets.alike.overlap import all_matches
from app.datasets.alike.repetition import Groups, groups_of
from app.datasets.columns import Column, column_of
from app.datasets.models import Dataset, DatasetSplit, DatasetVersion
from app.datasets.reading import Rows
from app.datasets.splitting import HELD_OUT, Draw, Flags, Sides, closed, drawn, leaders_of, united
from app.datasets.table import HAS_ERROR
from app.errors import Conflict, Invalid, NotFound
from app.kit.db import after_commit
from app.kit.ids import new_id
from app.kit.storage import Storage

HELD_OUT_WORDS = ("validation", "valid", "val", "dev", "test", "eval", "evaluation", "held_out")
_MOST_PAIRS = 400_000  # compared word by word with a held-out file
_SHOWN_VALUES = 50


@dataclass(frozen=True)
class _Case:
    """What a method parts: the opened rows, their groups, and what else it may need to read."""

    session: Session
    storage: Storage
    version: DatasetVersion
    rows: Rows
    draw: Draw
    groups: Groups
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class _Parted:
    """The sides; those that the method alone would have chosen; the column that it looked at."""

    sides: Sides
    alone: Sides
    column: Column | None = None
    more: Mapping[str, Any] | None = None


def create(
    session: Session,
    *,
    actor: Actor,
    storage: Storage,
    version: DatasetVersion,
    method: str,
    parameters: Mapping[str, Any],
) -> DatasetSplit:
    """Part a version's rows and store the sides; the same wish again gives the same split.

    Raises ``Conflict`` while the version is being checked, ``Invalid`` where a side would be empty.
    """
    require_write(actor)
    service.require_good_rows(version)
    parameters = _resolved(session, version, parameters)
    for known in repository.splits(session, [version.id]):
        if known.method == method and known.parameters == parameters:
            return known
    with Rows.open(storage, version) as rows:
        case = _case(
            session=session, storage=storage, version=version, rows=rows, parameters=parameters
        )
        parted = METHODS[method](case)
        result = _result(case, parted)
    _require_sides(result, method)
    data = parted.sides.tobytes()
    split = DatasetSplit(
        id=new_id("spl"),
        version_id=version.id,
        method=method,
        parameters=parameters,
        result=result,
        sha256=hashlib.sha256(data).hexdigest(),
        created_by=actor.id,
    )
    with storage.open(split.key, "wb") as target:
        target.write(data)
    session.add(split)
    session.flush()
    _audit(session, actor, "dataset.split", version, method=method)
    return split


def _resolved(
    session: Session, version: DatasetVersion, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parameters as they are stored: a file by the version that it is today."""
    named = parameters.get("file")
    if named is None:
        return dict(parameters)
    try:
        other = service.get_version(session, dataset_id=named["id"], number=named["version"])
    except NotFound as error:
        raise Invalid.field("file", error.detail) from error
    if other.id == version.id:
        raise Invalid.field("file", "a version cannot be its own held-out file; name another one")
    return {**parameters, "file": {"id": named["id"], "version": other.number}}


def _case(  # what a method may need, each named at the call
    *,
    session: Session,
    storage: Storage,
    version: DatasetVersion,
    rows: Rows,
    parameters: Mapping[str, Any],
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
    return _Case(session, storage, version, rows, draw, groups, parameters)


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
    column = column_of(case.rows, case.parameters["column"])
    draw = Draw(case.draw.keys, case.draw.good, case.draw.fraction, case.draw.seed, column.numbers)
    alone = drawn(draw, np.arange(len(case.rows)))
    return _Parted(drawn(draw, case.groups.leaders), alone, column)


def _group(case: _Case) -> _Parted:
    column = column_of(case.rows, case.parameters["column"])
    groups = leaders_of(column.numbers)
    sides = drawn(case.draw, united(groups, case.groups.leaders))
    return _Parted(sides, drawn(case.draw, groups))


def _column(case: _Case) -> _Parted:
    column = column_of(case.rows, case.parameters["column"])
    words = {word.casefold() for word in case.parameters["held_out"]}
    chosen = [at for at, label in enumerate(column.labels) if label.casefold() in words]
    if not chosen:
        shown = ", ".join(label[:40] for label in column.labels[:8])
        raise Invalid.field("held_out", f"no row has one of these values; there are: {shown}")
    alone = np.isin(column.numbers, chosen).astype(np.uint8)
    return _Parted(closed(alone, case.groups.leaders), alone, column)


def _file(case: _Case) -> _Parted:
    named = case.parameters["file"]
    other = service.get_version(case.session, dataset_id=named["id"], number=named["version"])
    service.require_good_rows(other)
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


def listed(session: Session, *, dataset_id: str, number: int | None) -> Sequence[DatasetSplit]:
    """Return the splits of a dataset, or of one version, newest first."""
    view = service.get(session, dataset_id=dataset_id)
    versions = [version.id for version in view.versions if number in {None, version.number}]
    return repository.splits(session, versions)


def get(session: Session, *, dataset_id: str, split_id: str) -> DatasetSplit:
    """Return a split of a dataset or raise ``NotFound``."""
    for split in listed(session, dataset_id=dataset_id, number=None):
        if split.id == split_id:
            return split
    raise NotFound("The dataset has no such split. It may have been deleted; see the list.")


def shares(session: Session, *, version: DatasetVersion) -> dict[str, float]:
    """Return what share of the rows each split of a version measures with, by the split's id."""
    found: dict[str, float] = {}
    for split in repository.splits(session, [version.id]):
        measured = split.result.get("of_file") or split.result["held_out"]
        found[split.id] = measured / (measured + split.result["trained"])
    return found


def measured_version(session: Session, *, split_id: str | None) -> DatasetVersion | None:
    """Return the version that a split measures with, if that is another one.

    Raises ``NotFound`` if it was deleted meanwhile.
    """
    split = session.get(DatasetSplit, split_id) if split_id else None
    named = split.parameters.get("file") if split is not None else None
    if named is None:
        return None
    return service.get_version(session, dataset_id=named["id"], number=named["version"])


def delete(
    session: Session, *, actor: Actor, storage: Storage, dataset_id: str, split_id: str
) -> None:
    """Delete a split; ``Conflict`` names the runs that rest on it."""
    split = get(session, dataset_id=dataset_id, split_id=split_id)
    require_owner(actor, split.created_by)
    runs = repository.runs_with_split(session, split_id)
    if runs:
        raise Conflict(service.used_by(runs), code="split_in_use")
    version = session.get_one(DatasetVersion, split.version_id)
    after_commit(session, partial(storage.delete, split.key))
    session.delete(split)
    _audit(session, actor, "dataset.delete_split", version, method=split.method)


def _audit(
    session: Session, actor: Actor, action: str, version: DatasetVersion, **detail: Any
) -> None:
    dataset = session.get_one(Dataset, version.dataset_id)
    auth.audit(
        session,
        actor=actor,
        action=action,
        subject_type="dataset",
        subject_id=dataset.id,
        detail={"name": dataset.name, "version": version.number, **detail},
    )
