"""Base models over HTTP. Translation only; rules live in ``service``."""

from fastapi import APIRouter, Response

from app.auth.idempotency import once
from app.basemodels import schemas, service
from app.basemodels.models import BaseModelRow
from app.basemodels.service import BaseModelView
from app.dependencies import (
    CurrentUser,
    IdempotencyKey,
    Member,
    PageParams,
    SessionDep,
    SettingsDep,
)

router = APIRouter(prefix="/base_models", tags=["Base models"])


def model_out(view: BaseModelView) -> schemas.BaseModelOut:
    """Return a model's body."""
    model = view.model
    return schemas.BaseModelOut.model_validate(
        {
            name: getattr(model, name)
            for name in schemas.BaseModelOut.model_fields
            if name not in ("job", "progress", "runs")
        }
        | {"job": model.job_id, "progress": view.progress, "runs": view.runs}
    )


@router.get("", name="base_models.list")
def list_models(
    session: SessionDep, settings: SettingsDep, _actor: CurrentUser, page: PageParams
) -> schemas.BaseModelList:
    """Return what may be tuned, by name; `folders` are there but not registered yet."""
    found = service.list_models(session, page=page)
    return schemas.BaseModelList(
        items=[model_out(view) for view in found.items],
        next=found.next,
        total=found.total,
        folders=service.unregistered_folders(session, settings),
    )


@router.get("/{model_id}", name="base_models.get")
def get(session: SessionDep, _actor: CurrentUser, model_id: str) -> schemas.BaseModelOut:
    """Return one base model."""
    return model_out(service.get_view(session, model_id=model_id))


@router.post("", status_code=201, name="base_models.create")
def create(
    session: SessionDep,
    settings: SettingsDep,
    actor: Member,
    body: schemas.BaseModelRequest,
    key: IdempotencyKey = None,
) -> schemas.BaseModelOut:
    """Register a folder below the models folder, or queue the download of a hub model."""

    def make() -> BaseModelRow:
        if body.folder:
            return service.register_folder(session, settings, actor=actor, folder=body.folder)
        return service.register_hub(
            session, actor=actor, hub_id=body.hub_id or "", revision=body.revision
        )

    model = once(
        session,
        actor=actor,
        key=key,
        operation="base_models.create",
        body=body,
        create=make,
        identify=lambda made: made.id,
        load=lambda model_id: service.get(session, model_id=model_id),
    )
    return model_out(service.get_view(session, model_id=model.id))


@router.delete("/{model_id}", status_code=204, name="base_models.delete")
def delete(session: SessionDep, settings: SettingsDep, actor: Member, model_id: str) -> Response:
    """Remove a model; 409 while unfinished runs need it. A folder of yours keeps its files."""
    service.delete(session, settings, actor=actor, model_id=model_id)
    return Response(status_code=204)
