"""Splits, overlap, repeats and differences of versions over HTTP. Translation only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from sqlalchemy.orm import Session

from app.datasets import schemas_hygiene, service, splits
from app.datasets.alike import difference, overlap, repetition
from app.datasets.alike.overlap import Pair
from app.datasets.endpoints import StorageDep
from app.datasets.models import DatasetSplit, DatasetVersion
from app.datasets.reading import Example
from app.dependencies import CurrentUser, Member, PageParams, SessionDep
from app.kit.pagination import PageRequest
from app.kit.storage import Storage

router = APIRouter(prefix="/datasets", tags=["Datasets"])

Number = Annotated[int | None, Query(ge=1)]


@dataclass(frozen=True)
class Reading:
    """What every page of rows is read with."""

    session: Session
    storage: Storage
    page: PageRequest

    def version(self, dataset_id: str, number: int | None) -> DatasetVersion:
        """Return a version whose check is done."""
        found = service.get_version(self.session, dataset_id=dataset_id, number=number)
        service.require_checked(found)
        return found


def reading_of(
    session: SessionDep, storage: StorageDep, page: PageParams, actor: CurrentUser
) -> Reading:
    """Return what a request reads with; any signed-in person may."""
    del actor
    return Reading(session, storage, page)


ReadingDep = Annotated[Reading, Depends(reading_of)]


@router.get("/{dataset_id}/overlap", name="datasets.overlap")
def show_overlap(
    dataset_id: str,
    reading: ReadingDep,
    other: Annotated[str, Query(alias="with", min_length=1)],
    version: Number = None,
    with_version: Number = None,
) -> schemas_hygiene.OverlapOut:
    """List rows that equal or almost equal a row of another version, side by side."""
    found = overlap.overlap(
        reading.storage,
        reading.version(dataset_id, version),
        reading.version(other, with_version),
        page=reading.page,
    )
    return schemas_hygiene.OverlapOut(
        exact=found.exact,
        near=found.near,
        rows=found.exact + found.near,
        of=found.of,
        complete=found.complete,
        items=[schemas_hygiene.PairOut(**_pair(pair)) for pair in found.items],
        next=found.next,
    )


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "line": pair.row.line,
        "with_line": pair.other.line,
        "kind": "exact" if pair.exact else "near",
        "similarity": round(pair.similarity, 3),
        "row": _shown(pair.row),
        "with_row": _shown(pair.other),
    }


def _shown(example: Example | None) -> Any:
    if example is None:
        return None
    return example.row if example.text is None else example.text


@router.get("/{dataset_id}/repeats", name="datasets.repeats")
def show_repeats(
    dataset_id: str, reading: ReadingDep, version: Number = None
) -> schemas_hygiene.RepeatList:
    """List rows that repeat an earlier one, copies and near copies, side by side."""
    found = repetition.repetitions(
        reading.storage, reading.version(dataset_id, version), page=reading.page
    )
    return schemas_hygiene.RepeatList(
        rows=found.rows,
        groups=found.groups,
        of=found.of,
        complete=found.complete,
        items=[
            schemas_hygiene.RepeatOut(**_pair(item.pair), group_rows=item.group_rows)
            for item in found.items
        ],
        next=found.next,
    )


@router.get("/{dataset_id}/difference", name="datasets.difference")
def show_difference(
    dataset_id: str,
    reading: ReadingDep,
    before: Annotated[int, Query(alias="from", ge=1)],
    after: Annotated[int, Query(alias="to", ge=1)],
    kind: difference.Kind | None = None,
) -> schemas_hygiene.DifferenceOut:
    """List rows that were added, removed or changed from one version to another."""
    found = difference.difference(
        reading.storage,
        reading.version(dataset_id, before),
        reading.version(dataset_id, after),
        kind=kind,
        page=reading.page,
    )
    return schemas_hygiene.DifferenceOut(
        added=found.added,
        removed=found.removed,
        changed=found.changed,
        same=found.same,
        items=[
            schemas_hygiene.ChangeOut(
                kind=item.kind,
                from_line=item.before.line if item.before else None,
                line=item.after.line if item.after else None,
                from_row=_shown(item.before),
                row=_shown(item.after),
            )
            for item in found.items
        ],
        next=found.next,
    )


@router.post("/{dataset_id}/splits", status_code=201, name="datasets.splits.create")
def create_split(
    dataset_id: str,
    wish: Annotated[schemas_hygiene.SplitWish, Body()],
    session: SessionDep,
    actor: Member,
    storage: StorageDep,
    response: Response,
) -> schemas_hygiene.SplitOut:
    """Say which rows of a version are held out; the same wish again is the same split.

    202 where a job parts a large version first.
    """
    version = service.get_version(session, dataset_id=dataset_id, number=wish.version)
    split = splits.create(
        session,
        actor=actor,
        storage=storage,
        version=version,
        method=wish.method,
        parameters=wish.model_dump(mode="json", exclude={"version", "method"}),
    )
    (made,) = _splits_out(session, [split], {version.id: version.number})
    response.status_code = 201 if made.status == "ready" else 202
    return made


def _splits_out(
    session: Session, found: Sequence[DatasetSplit], numbers: dict[str, int]
) -> list[schemas_hygiene.SplitOut]:
    """Return the bodies of splits; ``numbers`` are the versions' by id."""
    jobs = splits.jobs_of(session, found)
    made: list[schemas_hygiene.SplitOut] = []
    for split in found:
        status, failure = splits.status_of(split, jobs.get(split.id))
        made.append(
            schemas_hygiene.SplitOut(
                id=split.id,
                version=numbers[split.version_id],
                status=status,
                failure=failure,
                method=split.method,
                parameters=split.parameters,
                result=split.result,
                sha256=split.sha256 or None,
                created_by=split.created_by,
                created_at=split.created_at,
            )
        )
    return made


@router.get("/{dataset_id}/splits", name="datasets.splits.index")
def list_splits(
    dataset_id: str, session: SessionDep, actor: CurrentUser, version: Number = None
) -> schemas_hygiene.SplitList:
    """List the splits of a dataset, or of one version, newest first."""
    del actor
    view = service.get(session, dataset_id=dataset_id)
    numbers = {one.id: one.number for one in view.versions}
    found = splits.listed(session, dataset_id=dataset_id, number=version)
    return schemas_hygiene.SplitList(items=_splits_out(session, found, numbers))


@router.delete("/{dataset_id}/splits/{split_id}", status_code=204, name="datasets.splits.delete")
def delete_split(
    dataset_id: str, split_id: str, session: SessionDep, actor: Member, storage: StorageDep
) -> None:
    """Delete a split; 409 names the runs that use it."""
    splits.delete(session, actor=actor, storage=storage, dataset_id=dataset_id, split_id=split_id)
