"""Datasets over HTTP. Translation only; rules live in ``service`` and ``reading``."""

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.datasets import browsing, making, reading, schemas, service
from app.datasets.arriving.arrivals import Arrival
from app.datasets.intake import limits_of
from app.datasets.models import DatasetVersion
from app.datasets.service import DatasetView
from app.dependencies import (
    CurrentUser,
    IdempotencyKey,
    Member,
    OpenSessionDep,
    PageParams,
    SessionDep,
    SettingsDep,
    UploadActor,
)
from app.kit.storage import Storage, get_storage

router = APIRouter(prefix="/datasets", tags=["Datasets"])


def storage_of(settings: SettingsDep) -> Storage:
    """Return the storage of this Tunebox."""
    return get_storage(settings)


StorageDep = Annotated[Storage, Depends(storage_of)]


def version_out(version: DatasetVersion) -> schemas.VersionOut:
    """Return a version's body."""
    return schemas.VersionOut.model_validate(
        {
            name: getattr(version, name)
            for name in schemas.VersionOut.model_fields
            if name != "version"
        }
        | {"version": version.number, "sha256": version.content_hash}
    )


def dataset_out(view: DatasetView) -> schemas.DatasetOut:
    """Return a dataset's body, as its latest version shows it."""
    latest = version_out(view.latest).model_dump()
    shared = {name: latest[name] for name in schemas.DatasetOut.model_fields if name in latest}
    return schemas.DatasetOut.model_validate(
        shared
        | {
            "id": view.dataset.id,
            "name": view.dataset.name,
            "owner": view.dataset.owner_id,
            "created_at": view.dataset.created_at,
            "versions": [version_out(version) for version in view.versions],
        }
    )


@router.post("", status_code=201, name="datasets.create", openapi_extra=schemas.UPLOAD_BODY)
async def create(
    request: Request,
    actor: UploadActor,
    settings: SettingsDep,
    open_session: OpenSessionDep,
    key: IdempotencyKey = None,
) -> schemas.DatasetOut:
    """Make a dataset, or with `dataset` a new version, of a file, an `upload` or an `import`."""
    return await Arrival(open_session, actor, settings, key).take(request, dataset_out)


@router.get("", name="datasets.index")
def index(
    session: SessionDep, actor: CurrentUser, page: PageParams, q: str | None = None
) -> schemas.DatasetList:
    """List datasets, newest first."""
    del actor
    found = service.list_datasets(session, page=page, q=q)
    return schemas.DatasetList(
        items=[dataset_out(view) for view in found.items], next=found.next, total=found.total
    )


@router.get("/{dataset_id}", name="datasets.show")
def show(dataset_id: str, session: SessionDep, actor: CurrentUser) -> schemas.DatasetOut:
    """Show a dataset with its versions."""
    del actor
    return dataset_out(service.get(session, dataset_id=dataset_id))


@router.get("/{dataset_id}/problems", name="datasets.problems")
def problems(  # each is a query parameter
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    page: PageParams,
    code: str | None = None,
    severity: schemas.Severity | None = None,
    version: Annotated[int | None, Query(ge=1)] = None,
) -> schemas.ProblemList:
    """List what validation found, by line."""
    del actor
    of = service.get_version(session, dataset_id=dataset_id, number=version)
    found = service.problems(session, version=of, page=page, code=code, severity=severity)
    return schemas.ProblemList(
        items=[schemas.ProblemOut.model_validate(row) for row in found.items],
        next=found.next,
        total=found.total,
        by_code=of.by_code or {},
    )


@router.get("/{dataset_id}/file", name="datasets.file", response_class=StreamingResponse)
def file(  # each is a query parameter
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    storage: StorageDep,
    settings: SettingsDep,
    version: Annotated[int | None, Query(ge=1)] = None,
    *,
    cleaned: bool = False,
) -> Response:
    """Download a version byte for byte, or without its bad rows."""
    del actor
    of = service.get_version(session, dataset_id=dataset_id, number=version)
    making.require_made(of)
    if cleaned:
        service.require_good_rows(of)
    body: Iterator[bytes] = (
        reading.cleaned_file(storage, of, limits_of(settings))
        if cleaned
        else reading.original_file(storage, of)
    )
    name = reading.cleaned_name(of) if cleaned else of.filename
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if not cleaned:
        headers["Content-Length"] = str(of.bytes)
    kind = reading.media_type(of, cleaned=cleaned)
    return StreamingResponse(body, media_type=kind, headers=headers)


@router.get("/{dataset_id}/examples", name="datasets.examples")
def examples(  # each is a query parameter
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    storage: StorageDep,
    line: Annotated[int, Query(ge=1)] = 1,
    row: Annotated[int | None, Query(ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    code: str | None = None,
    q: Annotated[str | None, Query(max_length=200)] = None,
    version: Annotated[int | None, Query(ge=1)] = None,
) -> schemas.ExampleList:
    """Show rows as they stand in the file, from a line or a row on; of a code, or with a text."""
    del actor
    of = service.get_version(session, dataset_id=dataset_id, number=version)
    start = browsing.Start(line, row)
    found = browsing.browse(session, storage, of, start=start, limit=limit, code=code, q=q)
    return schemas.ExampleList(
        items=[
            schemas.ExampleOut(row_number=number, **vars(example))
            for number, example in found.items
        ],
        next=found.next_line,
        next_row=found.next_row,
        total=(of.examples or 0) + (of.bad_rows or 0),
    )


@router.get("/{dataset_id}/statistics", name="datasets.statistics")
def statistics(
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    version: Annotated[int | None, Query(ge=1)] = None,
) -> schemas.StatisticsOut:
    """Show counts over the rows without errors; null while they are being checked."""
    del actor
    of = service.get_version(session, dataset_id=dataset_id, number=version)
    values: dict[str, Any] | None = of.statistics
    return schemas.StatisticsOut(version=of.number, statistics=values)


@router.delete("/{dataset_id}", status_code=204, name="datasets.delete")
def delete(dataset_id: str, session: SessionDep, actor: Member, storage: StorageDep) -> None:
    """Delete a dataset with all its versions; 409 names the runs that use it."""
    service.delete(session, actor=actor, storage=storage, dataset_id=dataset_id)
