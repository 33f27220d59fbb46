"""Runs over HTTP, with their curves, log and comparison. Translation only; no rule."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.auth.idempotency import once
from app.dependencies import (
    CurrentUser,
    IdempotencyKey,
    Member,
    PageParams,
    SessionDep,
    SettingsDep,
)
from app.errors import Invalid
from app.evaluations import service as evaluations
from app.evaluations.endpoints import evaluation_out
from app.evaluations.schemas import EvaluationList
from app.jobs import service as jobs
from app.metrics import service as metrics
from app.metrics.service import DEFAULT_POINTS, MAX_POINTS
from app.runs import schemas, service, views
from app.runs.exchange import tunebox
from app.runs.repository import Wanted
from app.runs.spec import RunSpec
from app.runs.views import RunView

router = APIRouter(tags=["Runs"])
PLAIN = "text/plain; charset=utf-8"


def run_out(view: RunView) -> schemas.RunOut:
    """Return a run's body."""
    run, job = view.run, view.job
    return schemas.RunOut(
        id=run.id,
        number=job.number,
        name=run.name,
        job=job.id,
        owner=run.owner_id,
        owner_name=view.owner.name,
        dataset=run.dataset_id,
        dataset_name=view.dataset.name,
        dataset_version=view.version.number,
        base_model=run.base_model_id,
        base_model_name=view.base_model.name,
        status=job.status,
        attempt=job.attempt,
        phase=job.phase,
        step=job.step,
        total_steps=job.total_steps,
        progress=job.progress,
        eta=job.seconds_left,
        predicted_start=view.predicted_start,
        predicted_finish=view.predicted_finish,
        waiting_reason=view.waiting_reason,
        failure=schemas.FailureOut.model_validate(job.failure) if job.failure else None,
        spec=run.spec,
        reasons=run.reasons,
        summary=run.summary,
        note=run.note,
        created_at=run.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


def _answer(session: SessionDep, run_id: str) -> schemas.RunOut:
    return run_out(service.get_view(session, run_id))


@router.post("/runs", status_code=201, name="runs.create")
def create(
    session: SessionDep, actor: Member, body: schemas.RunRequest, key: IdempotencyKey = None
) -> schemas.RunOut:
    """Queue a run. What `config` leaves out comes from the preset and is stored resolved."""
    run = once(
        session,
        actor=actor,
        key=key,
        operation="runs.create",
        body=body,
        create=lambda: service.create(session, actor=actor, request=body),
        identify=lambda made: made.id,
        load=lambda run_id: service.get(session, run_id),
    )
    return _answer(session, run.id)


@router.get("/runs", name="runs.list")
def list_runs(  # each is a query parameter
    session: SessionDep,
    _actor: CurrentUser,
    page: PageParams,
    status: str | None = None,
    owner: str | None = None,
    dataset: str | None = None,
    base_model: str | None = None,
    q: Annotated[str | None, Query(max_length=200)] = None,
    sort: str = "-created_at",
) -> schemas.RunList:
    """Return runs, newest first; `status` takes several states, separated by commas."""
    wanted = Wanted(service.statuses(status), owner, dataset, base_model, q)
    found = service.list_runs(session, wanted=wanted, sort=sort, page=page)
    return schemas.RunList(
        items=[run_out(view) for view in found.items], next=found.next, total=found.total
    )


@router.get("/runs/{run_id}", name="runs.get")
def get(session: SessionDep, _actor: CurrentUser, run_id: str) -> schemas.RunOut:
    """Return a run with the state of its job."""
    return _answer(session, run_id)


@router.post("/runs/{run_id}/stop", status_code=202, name="runs.stop")
def stop(
    session: SessionDep, actor: Member, run_id: str, body: schemas.StopRequest | None = None
) -> schemas.RunOut:
    """End a run, keeping its work (`save`) or dropping it (`cancel`)."""
    service.stop(session, actor=actor, run_id=run_id, mode=body.mode if body else "save")
    return _answer(session, run_id)


@router.post("/runs/{run_id}/pause", status_code=202, name="runs.pause")
def pause(session: SessionDep, actor: Member, run_id: str) -> schemas.RunOut:
    """Save a checkpoint and give the device back."""
    service.pause(session, actor=actor, run_id=run_id)
    return _answer(session, run_id)


@router.post("/runs/{run_id}/resume", status_code=202, name="runs.resume")
def resume(session: SessionDep, actor: Member, run_id: str) -> schemas.RunOut:
    """Queue a paused run again."""
    service.resume(session, actor=actor, run_id=run_id)
    return _answer(session, run_id)


@router.post("/runs/{run_id}/retry", status_code=202, name="runs.retry")
def retry(
    session: SessionDep, actor: Member, run_id: str, body: schemas.RetryRequest | None = None
) -> schemas.RunOut:
    """Queue a failed or cancelled run again, with changes if given."""
    wish = body or schemas.RetryRequest.model_validate({})
    service.retry(session, actor=actor, run_id=run_id, start=wish.from_, changes=wish.changes)
    return _answer(session, run_id)


@router.get("/runs/{run_id}/metrics", name="runs.metrics")
def get_metrics(  # each is a query parameter
    session: SessionDep,
    _actor: CurrentUser,
    run_id: str,
    names: str | None = None,
    points: Annotated[int, Query(ge=2, le=MAX_POINTS)] = DEFAULT_POINTS,
    from_step: int | None = None,
    to_step: int | None = None,
) -> schemas.MetricsOut:
    """Return curves, thinned to `points` without losing spikes; `names` separated by commas."""
    found = metrics.series(
        session,
        job_id=service.get(session, run_id).job_id,
        names=[name.strip() for name in names.split(",")] if names else None,
        points=points,
        from_step=from_step,
        to_step=to_step,
    )
    return schemas.MetricsOut.model_validate(found)


@router.get("/runs/{run_id}/events", name="runs.events")
def get_events(
    session: SessionDep,
    _actor: CurrentUser,
    run_id: str,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> schemas.EventsOut:
    """Return stored events after `after`, oldest first."""
    job_id = service.get(session, run_id).job_id
    found = jobs.events_after(session, job_id=job_id, after=after, limit=limit)
    items = [event.model_dump(mode="json") for event in found]
    return schemas.EventsOut(items=items, last=found[-1].seq if found else after)


@router.get("/runs/{run_id}/log", name="runs.log")
def get_log(
    session: SessionDep,
    settings: SettingsDep,
    _actor: CurrentUser,
    run_id: str,
    tail: Annotated[int, Query(ge=1, le=10_000)] = 200,
) -> schemas.LogOut:
    """Return the last lines of the trainer's log."""
    run = service.get(session, run_id)
    return schemas.LogOut.model_validate(views.log_tail(session, settings, run=run, lines=tail))


@router.get("/runs/{run_id}/checkpoints", name="runs.checkpoints")
def get_checkpoints(
    session: SessionDep, settings: SettingsDep, _actor: CurrentUser, run_id: str
) -> schemas.CheckpointList:
    """Return the run's checkpoints, newest first."""
    found = views.checkpoints(session, settings, run=service.get(session, run_id))
    return schemas.CheckpointList(
        items=[schemas.CheckpointOut.model_validate(one) for one in found]
    )


@router.get("/runs/{run_id}/evaluations", name="runs.evaluations")
def get_evaluations(session: SessionDep, _actor: CurrentUser, run_id: str) -> EvaluationList:
    """Return what was measured after training."""
    run = service.get(session, run_id)
    found = evaluations.of_run(session, run_id=run.id)
    return EvaluationList(items=[evaluation_out(one) for one in found])


@router.get("/runs/{run_id}/script", name="runs.script", response_class=Response)
def get_script(
    session: SessionDep, settings: SettingsDep, _actor: CurrentUser, run_id: str
) -> Response:
    """Return a Python script that trains the same without Tunebox."""
    text = service.script_of(session, settings, run_id=run_id)
    return Response(text, media_type="text/x-python; charset=utf-8")


@router.get("/runs/{run_id}/yaml", name="runs.yaml", response_class=Response)
def get_yaml(
    session: SessionDep,
    _actor: CurrentUser,
    run_id: str,
    target: Annotated[
        Literal["tunebox", "axolotl", "llamafactory"], Query(alias="for")
    ] = "tunebox",
) -> Response:
    """Return the run's spec as YAML, to run it again."""
    if target != "tunebox":
        raise Invalid.field("for", f"{target} is not available in this version; use tunebox")
    spec = RunSpec.model_validate(service.get(session, run_id).spec)
    return Response(tunebox.to_yaml(spec), media_type="application/yaml; charset=utf-8")


@router.get("/compare", name="runs.compare")
def compare(
    session: SessionDep, _actor: CurrentUser, runs: Annotated[str, Query(max_length=1000)]
) -> schemas.ComparisonOut:
    """Set two to eight runs side by side: `runs` are ids, separated by commas."""
    ids = [part.strip() for part in runs.split(",") if part.strip()]
    return schemas.ComparisonOut.model_validate(service.compare(session, run_ids=ids))
