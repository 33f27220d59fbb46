"""Repairs over HTTP: which fit, what they change, and a new version with them. Translation only."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from app.auth.idempotency import once
from app.datasets import making, previewing, schemas, service
from app.datasets import schemas_repairs as bodies
from app.datasets.endpoints import StorageDep, dataset_out
from app.datasets.models import DatasetVersion
from app.datasets.previewing import Outcome, Preview
from app.dependencies import CurrentUser, IdempotencyKey, Member, SessionDep, SettingsDep

router = APIRouter(prefix="/datasets", tags=["Datasets"])


@router.get("/{dataset_id}/repairs", name="datasets.repairs")
def index(
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    storage: StorageDep,
    version: Annotated[int | None, Query(ge=1)] = None,
) -> bodies.RepairOffers:
    """List the repairs that do something to a version."""
    del actor
    of = _checked(session, dataset_id, version)
    return bodies.RepairOffers(
        version=of.number,
        items=[
            bodies.RepairOffer(
                name=offer.repair.name,
                title=offer.repair.title,
                what=offer.repair.what,
                rows=offer.rows,
                exact=offer.is_exact,
            )
            for offer in previewing.offers(session, storage, of)
        ],
    )


@router.post("/{dataset_id}/repairs/preview", name="datasets.repairs.preview")
def preview(
    dataset_id: str,
    body: bodies.PreviewRequest,
    session: SessionDep,
    actor: Member,
    storage: StorageDep,
) -> bodies.PreviewOut:
    """Show what repairs would change, before anything is done; secrets are hidden."""
    del actor
    names = making.checked_names(body.repairs)
    of = _checked(session, dataset_id, body.version)
    found = previewing.preview(session, storage, of, names=names, limit=body.limit)
    return bodies.PreviewOut(
        version=of.number,
        rows=found.rows,
        complete=found.is_complete,
        note=_note(found, of),
        repairs=[_outcome(outcome) for outcome in found.outcomes],
    )


@router.post("/{dataset_id}/repairs", status_code=201, name="datasets.repair")
def create(
    dataset_id: str,
    body: bodies.RepairRequest,
    session: SessionDep,
    actor: Member,
    storage: StorageDep,
    settings: SettingsDep,
    key: IdempotencyKey = None,
) -> schemas.DatasetOut:
    """Add a version with these repairs; it is made and checked by a job."""
    view = once(
        session,
        actor=actor,
        key=key,
        operation=f"datasets.repair {dataset_id}",
        body=body,
        create=lambda: making.request(
            session,
            actor=actor,
            storage=storage,
            settings=settings,
            dataset_id=dataset_id,
            number=body.version,
            names=body.repairs,
        ),
        identify=lambda made: made.dataset.id,
        load=lambda known: service.get(session, dataset_id=known),
    )
    return dataset_out(view)


def _checked(session: Session, dataset_id: str, number: int | None) -> DatasetVersion:
    version = service.get_version(session, dataset_id=dataset_id, number=number)
    service.require_checked(version)
    return version


def _outcome(outcome: Outcome) -> bodies.RepairPreview:
    return bodies.RepairPreview(
        name=outcome.repair.name,
        title=outcome.repair.title,
        changed=outcome.changed,
        dropped=outcome.dropped,
        total=outcome.total,
        differences=[bodies.DifferenceOut.model_validate(shown) for shown in outcome.differences],
    )


def _note(found: Preview, version: DatasetVersion) -> str | None:
    """Return what must be known besides: what was not looked at, and what the file becomes."""
    notes: list[str] = []
    if not found.is_complete:
        notes.append(f"Only the first {found.rows:,} rows were looked at; all will be repaired.")
    if not version.is_plain:
        notes.append("The new version is written as JSON Lines; rows that cannot be read go.")
    return " ".join(notes) or None
