"""What may be done with runs: launch, list, look, stop, pause, resume, retry, compare.

Knows no HTTP. A run's state is its job's; ``launching`` turns a wish into a spec, ``comparison``
sets runs side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.roles import Actor, require_owner, require_write
from app.errors import Invalid, NotFound
from app.evaluations import service as evaluations
from app.evaluations.models import Evaluation
from app.jobs import service as jobs
from app.jobs.events import EventType, JobEvent
from app.jobs.state import JobKind, JobStatus, StopMode
from app.kit.clock import utc_now
from app.kit.ids import new_id
from app.kit.pagination import Page, PageRequest, encode_cursor
from app.queue import Lane
from app.runs import changing, inputs, planning, repository
from app.runs import comparison as comparing
from app.runs.comparison import Comparison, Item, Measured, Subject
from app.runs.exchange.script import script
from app.runs.launching import Chosen
from app.runs.models import Run
from app.runs.repository import SORTS, RunRow, Wanted
from app.runs.schemas import RunRequest
from app.runs.spec import Objective, RunSpec, TrainerJob
from app.runs.views import RunView, view_of
from app.settings import Settings

PRIORITIES = {"low": -1, "normal": 0, "high": 1}
COMPARED = (2, 8)


def create(session: Session, *, actor: Actor, request: RunRequest) -> Run:
    """Queue a new run. Raises ``Invalid`` by field, or ``Conflict`` while inputs are not ready."""
    require_write(actor)
    plan = planning.planned(session, request)
    return _queue(session, actor=actor, spec=plan.spec, chosen=plan.chosen, reasons=plan.reasons)


def _queue(
    session: Session,
    *,
    actor: Actor,
    spec: RunSpec,
    chosen: Chosen,
    reasons: dict[str, str],
) -> Run:
    run_id = new_id("run")
    job = jobs.submit(
        session,
        kind=JobKind.TRAIN,
        lane=Lane.DEVICES,
        title=spec.name,
        subject_id=run_id,
        owner_id=actor.id,
        priority=PRIORITIES[spec.priority],
        device_kind=spec.resources.kind,
        devices_needed=spec.resources.devices,
    )
    run = Run(
        id=run_id,
        job_id=job.id,
        name=spec.name,
        owner_id=actor.id,
        dataset_id=chosen.dataset.id,
        dataset_version_id=chosen.version.id,
        base_model_id=chosen.model.id,
        spec=spec.model_dump(mode="json"),
        reasons=reasons,
        summary={},
        note=spec.note,
    )
    session.add(run)
    session.flush()
    _audit(session, actor, "run.create", run, name=run.name)
    return run


def _audit(session: Session, actor: Actor, action: str, run: Run, **detail: Any) -> None:
    auth.audit(
        session,
        actor=actor,
        action=action,
        subject_type="run",
        subject_id=run.id,
        detail=detail,
    )


def get(session: Session, run_id: str) -> Run:
    """Return a run or raise ``NotFound``."""
    run = session.get(Run, run_id)
    if run is None:
        raise NotFound("There is no such run. It may be under another address; see the list.")
    return run


def get_view(session: Session, run_id: str) -> RunView:
    """Return a run with its job, its inputs and what is predicted."""
    row = repository.one(session, run_id)
    if row is None:
        raise NotFound("There is no such run. It may be under another address; see the list.")
    return view_of(session, row)


def list_runs(
    session: Session, *, wanted: Wanted | None = None, sort: str = "-created_at", page: PageRequest
) -> Page[RunView]:
    """Return runs. ``sort``: created_at, name or eval_loss, with ``-`` from the other end."""
    wanted = wanted or Wanted()
    name = sort.removeprefix("-")
    if name not in SORTS:
        raise Invalid.field("sort", f"use one of {', '.join(SORTS)}, with - before it to turn it")
    position = page.position()
    if position is not None and len(position) != 2:  # noqa: PLR2004  # value and id
        raise Invalid.field("cursor", "use the value of `next` as it was answered")
    found = repository.listed(
        session,
        wanted,
        sort=name,
        descending=sort.startswith("-"),
        after=(position[0], position[1]) if position else None,
        limit=page.limit + 1,
    )
    shown = found[: page.limit]
    more = len(found) > page.limit
    following = encode_cursor([shown[-1][1], shown[-1][0].run.id]) if more else None
    views = [view_of(session, row) for row, _ in shown]
    return Page(views, following, repository.count(session, wanted))


def stop(session: Session, *, actor: Actor, run_id: str, mode: Literal["save", "cancel"]) -> Run:
    """End a run: keep the work so far, or drop it."""
    run = _own(session, actor, run_id)
    jobs.request_stop(session, job_id=run.job_id, mode=StopMode(mode))
    _audit(session, actor, "run.stop", run, mode=mode)
    return run


def pause(session: Session, *, actor: Actor, run_id: str) -> Run:
    """Save a checkpoint and give the device back until someone resumes."""
    run = _own(session, actor, run_id)
    jobs.request_stop(session, job_id=run.job_id, mode=StopMode.PAUSE)
    _audit(session, actor, "run.pause", run)
    return run


def resume(session: Session, *, actor: Actor, run_id: str) -> Run:
    """Queue a paused run again; it goes on from its last checkpoint."""
    run = _own(session, actor, run_id)
    jobs.resume(session, run.job_id)
    _audit(session, actor, "run.resume", run)
    return run


def retry(
    session: Session,
    *,
    actor: Actor,
    run_id: str,
    start: Literal["checkpoint", "start"] = "checkpoint",
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """Queue a failed or cancelled run again, from its checkpoint or its start, with ``changes``."""
    run = _own(session, actor, run_id)
    before = RunSpec.model_validate(run.spec)
    config, changed = changing.changed(session, before, changes or {}, start=start)
    job = jobs.retry(session, job_id=run.job_id, fresh=start == "start")
    if changed:
        run.spec = before.model_copy(update={"config": config}).model_dump(mode="json")
        sentence = f"Changed for attempt {job.attempt + 1}."
        run.reasons = run.reasons | dict.fromkeys(changed, sentence)
        text = "; ".join(f"{field}: {old} → {new}" for field, (old, new) in changed.items())
        event = JobEvent(
            seq=0,
            type=EventType.LOG,
            at=utc_now(),
            values={"level": "info", "text": f"Retry with changes: {text}"},
        )
        jobs.append_events(session, run.job_id, [event])
    _audit(session, actor, "run.retry", run, start=start, changes=changed)
    return run


def _own(session: Session, actor: Actor, run_id: str) -> Run:
    run = repository.lock(session, run_id)
    if run is None:
        raise NotFound("There is no such run. It may be under another address; see the list.")
    require_owner(actor, run.owner_id)
    return run


def compare(session: Session, *, run_ids: Sequence[str]) -> Comparison:
    """Set two to eight runs side by side, in the order given."""
    wanted = list(dict.fromkeys(run_ids))
    fewest, most = COMPARED
    if not fewest <= len(wanted) <= most:
        raise Invalid.field("runs", f"name {fewest} to {most} different runs, separated by commas")
    rows = repository.many(session, wanted)
    missing = [run_id for run_id in wanted if run_id not in rows]
    if missing:
        raise Invalid.field("runs", f"there is no run {missing[0][:80]}; take it out")
    found = evaluations.of_runs(session, run_ids=wanted)
    measured = {
        run_id: [_measured(session, one) for one in found if one.run_id == run_id]
        for run_id in wanted
    }
    return comparing.compare([_subject(rows[run_id], measured[run_id]) for run_id in wanted])


def _subject(row: RunRow, measured: list[Measured]) -> Subject:
    return Subject(
        id=row.run.id,
        number=row.job.number,
        name=row.run.name,
        status=row.job.status,
        dataset=f"{row.dataset.name} v{row.version.number}",
        base_model=row.base_model.name,
        spec=RunSpec.model_validate(row.run.spec),
        total_steps=row.job.total_steps,
        summary=row.run.summary,
        measured=measured,
    )


def _measured(session: Session, evaluation: Evaluation) -> Measured:
    items = evaluations.all_items(session, evaluation_id=evaluation.id)
    return Measured(
        suite=evaluation.suite,
        metrics=evaluation.report.get("metrics", {}),
        items=[
            Item(
                line=item.line,
                prompt=item.prompt,
                expected=item.expected,
                base_output=item.base_output,
                tuned_output=item.tuned_output,
                base_scores=item.base_scores,
                tuned_scores=item.tuned_scores,
            )
            for item in items
        ],
    )


def trainer_job(
    session: Session, settings: Settings, *, job_id: str, device: Literal["cpu", "cuda"]
) -> TrainerJob:
    """Return what a trainer on this machine needs for a job; files elsewhere are fetched."""
    run = repository.by_job(session, job_id)
    if run is None:
        raise NotFound("This job has no run.")
    spec = RunSpec.model_validate(run.spec)
    row = repository.one(session, run.id)
    if row is None:
        raise NotFound("This job has no run.")
    job = planning.trainer_job(
        session,
        settings,
        planning.Inputs(spec, row.version, row.base_model),
        job_id=job_id,
        today=run.created_at.date(),
        device=device,
    )
    return job.model_copy(update={"fresh": row.job.fresh})


def script_of(session: Session, settings: Settings, *, run_id: str) -> str:
    """Return the Python script that trains what a run trained, without Tunebox."""
    view = get_view(session, run_id)
    objective = view.spec.config.objective
    if objective is Objective.SIMULATED:
        raise Invalid("A simulated run trains nothing, so there is no script of it.")
    if objective is not Objective.SFT:
        text = f"There are scripts of sft only, not of {objective.value}; take the settings as YAML"
        raise Invalid(f"{text}, or the adapter.")
    return script(
        view.spec,
        excluded_lines=inputs.excluded(settings, view.spec, view.version),
        differences=inputs.differences(view.spec, view.version),
    )


def statuses(text: str | None) -> tuple[JobStatus, ...]:
    """Return the states that a filter names, separated by commas."""
    try:
        return tuple(JobStatus(part.strip()) for part in (text or "").split(",") if part.strip())
    except ValueError as error:
        known = ", ".join(JobStatus)
        raise Invalid.field("status", f"use states of this list: {known}") from error
