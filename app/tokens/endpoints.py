"""Token reports and previews over HTTP. Translation only; rules live in ``service``."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.dependencies import CurrentUser, OpenSessionDep, SessionDep, SettingsDep, UploadActor
from app.tokens import schemas, service
from app.tokens.service import ReportView

router = APIRouter(prefix="/datasets", tags=["Datasets"])

_TICK = 0.25
_RUNNING = 202


@router.post(
    "/{dataset_id}/token_report",
    name="datasets.token_report",
    responses={_RUNNING: {"description": "It is being made; the same call answers it later"}},
)
def token_report(
    dataset_id: str,
    body: schemas.ReportRequest,
    response: Response,
    open_session: OpenSessionDep,
    actor: UploadActor,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for it.")] = 15.0,
) -> schemas.ReportOut:
    """Count a version's tokens for a base model: made once, then answered at once.

    202 with `"status": "running"` while it is made; 409 with the reason where it cannot be.
    """
    with open_session() as session:
        asked = service.pair(
            session, dataset_id=dataset_id, number=body.version, base_model=body.base_model
        )
        view = service.ask(session, actor=actor, asked=asked, max_length=body.max_length)
        report_id = view.report.id
    end = time.monotonic() + wait
    while view.status == "running" and time.monotonic() < end:
        time.sleep(_TICK)
        with open_session() as session:
            view = service.look(session, report_id=report_id)
    service.require_made(view)
    if view.status == "running":
        response.status_code = _RUNNING
    return report_out(view)


def report_out(view: ReportView) -> schemas.ReportOut:
    """Return a report's body."""
    return schemas.ReportOut.model_validate(
        {
            **(view.report.result or {}),
            "status": view.status,
            "version": view.version,
            "base_model": view.report.base_model_id,
            "max_length": view.report.max_length,
            "progress": view.job.progress if view.job else None,
        }
    )


@router.get("/{dataset_id}/preview", name="datasets.preview")
def preview(
    dataset_id: str,
    session: SessionDep,
    settings: SettingsDep,
    actor: CurrentUser,
    line: Annotated[int, Query(ge=1)],
    base_model: str,
    version: Annotated[int | None, Query(ge=1)] = None,
    max_length: Annotated[int | None, Query(ge=16, le=1_048_576)] = None,
) -> schemas.PreviewOut:
    """Show a row as it is trained, token by token; 409 with the reason where it cannot be."""
    del actor
    asked = service.pair(session, dataset_id=dataset_id, number=version, base_model=base_model)
    found = service.preview(settings, asked, line=line, max_length=max_length)
    return schemas.PreviewOut.model_validate({"line": line, **found})
