"""Sweeps over HTTP. Translation only; rules live in ``service``."""

from fastapi import APIRouter

from app.auth.idempotency import once
from app.dependencies import CurrentUser, IdempotencyKey, Member, PageParams, SessionDep
from app.sweeps import schemas, service
from app.sweeps.service import Line, SweepView

router = APIRouter(tags=["Sweeps"])


def run_out(line: Line) -> schemas.SweepRunOut:
    """Return the body of one run of a sweep."""
    entry, run, job = line.member.entry, line.member.run, line.member.job
    step, value = line.best or (None, None)
    return schemas.SweepRunOut(
        id=run.id,
        number=job.number,
        name=run.name,
        status=job.status,
        step=job.step,
        total_steps=job.total_steps,
        values=entry.values,
        best_value=value,
        best_step=step,
        ended=line.ended,
    )


def sweep_out(view: SweepView) -> schemas.SweepOut:
    """Return a sweep's body."""
    sweep = view.sweep
    return schemas.SweepOut(
        id=sweep.id,
        name=sweep.name,
        owner=sweep.owner_id,
        owner_name=view.owner.name,
        dataset=sweep.dataset_id,
        base_model=sweep.base_model_id,
        search=view.search,
        metric=sweep.metric,
        goal="max" if sweep.goal == "max" else "min",
        halving=view.halving,
        unfinished=view.unfinished,
        runs=[run_out(line) for line in view.lines],
        created_at=sweep.created_at,
        stopped_at=sweep.stopped_at,
    )


@router.post("/sweeps", status_code=201, name="sweeps.create")
def create(
    session: SessionDep, actor: Member, body: schemas.SweepRequest, key: IdempotencyKey = None
) -> schemas.SweepOut:
    """Queue the runs of a grid or of random points: all of them, or none with the reason."""
    made = once(
        session,
        actor=actor,
        key=key,
        operation="sweeps.create",
        body=body,
        create=lambda: service.create(session, actor=actor, request=body),
        identify=lambda one: one.id,
        load=lambda sweep_id: service.get(session, sweep_id),
    )
    return sweep_out(service.view(session, made.id))


@router.get("/sweeps", name="sweeps.list")
def list_sweeps(session: SessionDep, _actor: CurrentUser, page: PageParams) -> schemas.SweepList:
    """Return sweeps, newest first."""
    found = service.list_sweeps(session, page=page)
    items = [sweep_out(view) for view in found.items]
    return schemas.SweepList(items=items, next=found.next, total=found.total)


@router.get("/sweeps/{sweep_id}", name="sweeps.get")
def get(session: SessionDep, _actor: CurrentUser, sweep_id: str) -> schemas.SweepOut:
    """Return a sweep with its runs, the best first."""
    return sweep_out(service.view(session, sweep_id))


@router.post("/sweeps/{sweep_id}/stop", status_code=202, name="sweeps.stop")
def stop(session: SessionDep, actor: Member, sweep_id: str) -> schemas.SweepOut:
    """End all runs of a sweep that have not ended; what runs keeps its work."""
    service.stop(session, actor=actor, sweep_id=sweep_id)
    return sweep_out(service.view(session, sweep_id))
