"""Preflights over HTTP. Translation only; rules live in ``service``."""

from typing import Any

from fastapi import APIRouter

from app.auth.idempotency import once
from app.dependencies import CurrentUser, IdempotencyKey, Member, SessionDep
from app.preflights import schemas, service
from app.preflights.service import Trial, View
from app.runs.trying import Mode

router = APIRouter(tags=["Preflights"])
_TOLD = set(schemas.TrialOut.model_fields) - {"changes", "words"}


def trial_out(trial: Trial) -> schemas.TrialOut:
    """Return the body of one try."""
    told: dict[str, Any] = {name: trial[name] for name in _TOLD if name in trial.measured}
    return schemas.TrialOut(changes=trial.changes, words=trial.words, **told)


def preflight_out(view: View) -> schemas.PreflightOut:
    """Return a preflight's body."""
    found, job = view.preflight, view.job
    asked, proposed = view.asked, view.proposed
    return schemas.PreflightOut(
        id=found.id,
        job=job.id,
        run=found.run_id,
        owner=found.owner_id,
        mode=Mode(found.mode),
        status=job.status,
        doing=view.doing,
        waiting_reason=view.waiting_reason,
        failure=found.failure,
        dataset=view.version.dataset_id,
        dataset_version=view.version.number,
        base_model=found.base_model_id,
        device=asked["device"] if asked else None,
        fits=asked.fits if asked else None,
        chosen=view.chosen,
        changes=proposed.changes if proposed else {},
        trials=[trial_out(one) for one in view.trials],
        spec=found.spec,
        created_at=found.created_at,
        finished_at=found.finished_at,
    )


@router.post("/preflights", status_code=202, name="preflights.create")
def create(
    session: SessionDep, actor: Member, body: schemas.PreflightRequest, key: IdempotencyKey = None
) -> schemas.PreflightOut:
    """Try a run on its device: two or three real steps on its longest batches. Queues a job."""
    made = once(
        session,
        actor=actor,
        key=key,
        operation="preflights.create",
        body=body,
        create=lambda: service.create(session, actor=actor, request=body, mode=body.mode),
        identify=lambda one: one.id,
        load=lambda preflight_id: service.get(session, preflight_id),
    )
    return preflight_out(service.view(session, made.id))


@router.get("/preflights/{preflight_id}", name="preflights.get")
def get(session: SessionDep, _actor: CurrentUser, preflight_id: str) -> schemas.PreflightOut:
    """Say how a preflight stands and what it measured."""
    return preflight_out(service.view(session, preflight_id))
