"""Sweeps: many runs of one wish with other values, compared by one figure, the losing ones ended.

Each point is launched as any run is, and all of them or none. Knows no HTTP; which points there are
says ``grid``, which runs go on says ``asha``.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.models import User
from app.auth.roles import Actor, require_owner, require_write
from app.datasets import splits
from app.datasets.models import DatasetVersion
from app.errors import Conflict, FieldError, Invalid, NotFound
from app.jobs import service as jobs
from app.jobs.events import EventType, JobEvent
from app.jobs.state import JobStatus, StopMode
from app.kit.clock import utc_now
from app.kit.ids import new_id
from app.kit.pagination import Page, PageRequest, encode_cursor
from app.metrics import service as metrics
from app.runs import launching, presets
from app.runs import service as runs
from app.runs.models import Run
from app.runs.objectives import ACCURACIES, KINDS
from app.runs.schemas import RunRequest
from app.runs.spec import Objective, RunConfig, RunSpec
from app.sweeps import asha, grid, repository
from app.sweeps.asha import Curve, Halving, Verdict
from app.sweeps.grid import Point, Search, Unsearchable
from app.sweeps.models import Sweep, SweepRun
from app.sweeps.repository import Member
from app.sweeps.schemas import SweepRequest

_NAME_LENGTH = 110  # of a run's 120, so that its number finds room
# Beside all of ``data`` and ``rewards``, what decides what the validation measures.
_MEASURE = frozenset({"objective", "training.max_length", "training.assistant_only_loss"})
_GOING = frozenset({JobStatus.STARTING, JobStatus.RUNNING})
_AT_REST = frozenset({JobStatus.STOPPING, JobStatus.SUCCEEDED, JobStatus.CANCELLED})


@dataclass(frozen=True)
class Line:
    """A run of a sweep and its best (step, value), if it has a figure yet."""

    member: Member
    best: tuple[int, float] | None

    @property
    def value(self) -> float | None:
        """Return the best figure."""
        return self.best[1] if self.best else None

    @property
    def status(self) -> JobStatus:
        """Return where the run stands."""
        return JobStatus(self.member.job.status)

    @property
    def ended(self) -> dict[str, Any] | None:
        """Return why the sweep ended the run early; None if somebody let it go on after that."""
        job = self.member.job
        is_whole = job.total_steps is not None and job.step >= job.total_steps
        return self.member.entry.ended if self.status in _AT_REST and not is_whole else None


@dataclass(frozen=True)
class SweepView:
    """A sweep and its runs, the best first."""

    sweep: Sweep
    owner: User
    lines: list[Line]

    @cached_property
    def search(self) -> Search:
        """Return what varies."""
        return Search.model_validate(self.sweep.search)

    @property
    def halving(self) -> Halving | None:
        """Return when losing runs end."""
        return Halving.model_validate(self.sweep.halving) if self.sweep.halving else None

    @property
    def unfinished(self) -> int:
        """Return how many runs have not ended."""
        return sum(not line.status.is_final for line in self.lines)

    @property
    def winner(self) -> Line | None:
        """Return the best run so far."""
        return self.lines[0] if self.lines and self.lines[0].best else None


def worded(point: Mapping[str, Any]) -> str:
    """Return a point in words: learning_rate 0.0002, rank 8."""
    return ", ".join(f"{field.rpartition('.')[2]} {value}" for field, value in point.items())


def create(session: Session, *, actor: Actor, request: SweepRequest) -> Sweep:
    """Queue the runs of a sweep. Raises ``Invalid`` naming the run and the field, or ``Conflict``.

    Nothing is queued unless all of them can be.
    """
    require_write(actor)
    points = _points(request.search)
    varied = ", ".join(field.rpartition(".")[2] for field in request.search.fields)
    name = (request.name or f"Sweep of {varied}").strip()
    made = [
        _launch(session, actor, request, name=name, place=place, point=point)
        for place, point in enumerate(points, start=1)
    ]
    config = RunSpec.model_validate(made[0].spec).config
    _require_held_out(session, made[0], config)
    natural = _goal_of(request, config.objective)
    sweep = Sweep(
        id=new_id("swp"),
        name=name,
        owner_id=actor.id,
        dataset_id=made[0].dataset_id,
        dataset_version_id=made[0].dataset_version_id,
        base_model_id=made[0].base_model_id,
        search=request.search.model_dump(mode="json"),
        metric=request.metric,
        goal=request.goal or natural,
        halving=request.halving.model_dump(mode="json") if request.halving else None,
        note=request.note,
        stopped_at=None,
    )
    session.add(sweep)
    session.flush()
    for place, (run, point) in enumerate(zip(made, points, strict=True), start=1):
        values = dict(point)
        entry = SweepRun(run_id=run.id, sweep_id=sweep.id, place=place, values=values, ended=None)
        session.add(entry)
    session.flush()
    _audit(session, actor, "sweep.create", sweep, runs=len(made))
    return sweep


def _points(search: Search) -> list[Point]:
    for field in search.fields:
        if field in _MEASURE or field.startswith(("data.", "rewards.")):
            text = "this changes what is measured, so figures would not compare; leave it out"
            raise Invalid.field(f"search.fields.{field}", text)
    try:
        return grid.points(search)
    except Unsearchable as error:
        raise Invalid.field(f"search.{error.field}", error.message) from error


def _goal_of(request: SweepRequest, objective: Objective) -> asha.Goal:
    """Return which end of the figure is the better one, if runs can be compared by it."""
    known = KINDS[objective].figures
    if request.metric not in known:
        text = f"runs of {objective.value} can be compared by {', '.join(known)}"
        raise Invalid.field("metric", text)
    scaled = [field for field in request.search.fields if field.startswith("preference.")]
    if scaled and request.metric != ACCURACIES:
        text = f"this changes what {request.metric} measures; compare by {ACCURACIES}"
        raise Invalid.field(f"search.fields.{scaled[0]}", text)
    return known[request.metric]


def _require_held_out(session: Session, run: Run, config: RunConfig) -> None:
    """Raise ``Invalid`` if the runs hold nothing out, for then they have no figure to compare."""
    if config.objective is Objective.SIMULATED:
        return
    data, field, share = config.data, "validation_fraction", config.data.validation_fraction
    if data.split is not None:
        version = session.get_one(DatasetVersion, run.dataset_version_id)
        field, share = "split", splits.shares(session, version=version)[data.split]
    if share == 0:
        text = "runs of a sweep are compared by rows that are held out; hold some out"
        raise Invalid.field(f"config.data.{field}", text)


def _launch(
    session: Session, actor: Actor, request: SweepRequest, *, name: str, place: int, point: Point
) -> Run:
    config = presets.nested({**launching.flattened(request.config), **point})
    asked = {**request.model_dump(include=set(RunRequest.model_fields)), "config": config}
    asked["name"] = f"{name[:_NAME_LENGTH]} · {place}"
    try:
        return runs.create(session, actor=actor, request=RunRequest.model_validate(asked))
    except Invalid as error:
        found = tuple(_at_search(one, point) for one in error.errors)
        text = f"Run {place} ({worded(point)}): {error.detail}"
        raise Invalid(text, code=error.code, errors=found) from error


def _at_search(error: FieldError, point: Point) -> FieldError:
    """Return the error at the place in the request where the value came from."""
    field = error.field.removeprefix("config.")
    return FieldError(f"search.fields.{field}", error.message) if field in point else error


def _audit(session: Session, actor: Actor, action: str, sweep: Sweep, **detail: Any) -> None:
    auth.audit(
        session,
        actor=actor,
        action=action,
        subject_type="sweep",
        subject_id=sweep.id,
        detail={"name": sweep.name, **detail},
    )


def get(session: Session, sweep_id: str) -> Sweep:
    """Return a sweep or raise ``NotFound``."""
    return _found(session, sweep_id)[0]


def _found(session: Session, sweep_id: str) -> tuple[Sweep, User]:
    found = repository.one(session, sweep_id)
    if found is None:
        raise NotFound("There is no such sweep. It may be under another address; see the list.")
    return found


def view(session: Session, sweep_id: str) -> SweepView:
    """Return a sweep with its runs."""
    return _views(session, [_found(session, sweep_id)])[0]


def list_sweeps(session: Session, *, page: PageRequest) -> Page[SweepView]:
    """Return sweeps, newest first."""
    position = page.position(str)
    before = position[0] if position else None
    found = repository.listed(session, before=before, limit=page.limit + 1)
    shown = found[: page.limit]
    following = encode_cursor([shown[-1][0].id]) if len(found) > page.limit else None
    return Page(_views(session, shown), following, repository.count(session))


def _views(session: Session, found: Sequence[tuple[Sweep, User]]) -> list[SweepView]:
    members = repository.members(session, [sweep.id for sweep, _ in found])
    return [
        _view(session, sweep, owner, [one for one in members if one.entry.sweep_id == sweep.id])
        for sweep, owner in found
    ]


def _view(session: Session, sweep: Sweep, owner: User, members: list[Member]) -> SweepView:
    goal, curves = _goal(sweep), _curves(session, sweep, members)
    lines = [Line(one, asha.best(curves[one.run.id], goal)) for one in members]
    lines.sort(key=lambda line: (asha.cost(line.value, goal), line.member.entry.place))
    return SweepView(sweep, owner, lines)


def _goal(sweep: Sweep) -> asha.Goal:
    return "max" if sweep.goal == "max" else "min"


def _curves(session: Session, sweep: Sweep, members: Sequence[Member]) -> dict[str, Curve]:
    points = metrics.points_of(session, job_ids=[one.job.id for one in members], name=sweep.metric)
    return {one.run.id: Curve(one.job.total_steps, points.get(one.job.id, [])) for one in members}


def stop(session: Session, *, actor: Actor, sweep_id: str) -> Sweep:
    """End all runs that have not ended: what runs keeps its work, what waits is dropped."""
    sweep, _ = _found(session, sweep_id)
    require_owner(actor, sweep.owner_id)
    for member in repository.members(session, [sweep.id]):
        with suppress(Conflict):  # it has just ended by itself
            jobs.request_stop(session, job_id=member.job.id, mode=StopMode.SAVE)
    sweep.stopped_at = utc_now()
    _audit(session, actor, "sweep.stop", sweep)
    return sweep


def judge(session: Session, *, job_id: str, events: Sequence[JobEvent]) -> None:
    """End the run of a job if its newest figure says that it loses its sweep.

    ``events`` were just stored, the job is locked. A run that somebody starts again after that is
    left alone, and so is one that is at its last step, or that somebody pauses or stops already.
    """
    told = {name for event in events if event.type is EventType.METRICS for name in event.values}
    found = repository.of_job(session, job_id) if any(map(_is_judged, told)) else None
    if found is None:
        return
    entry, sweep = found
    is_going = JobStatus(jobs.get(session, job_id).status) in _GOING
    if not sweep.halving or entry.ended or sweep.metric not in told or not is_going:
        return
    curves = _curves(session, sweep, repository.members(session, [sweep.id]))
    halving = Halving.model_validate(sweep.halving)
    verdict = asha.judge(entry.run_id, curves, halving=halving, goal=_goal(sweep))
    if verdict is None or verdict.rung <= entry.rung:
        return
    entry.rung = verdict.rung
    if not verdict.goes_on and verdict.step < (curves[entry.run_id].total or 0):
        _end(session, entry, sweep, verdict, job_id=job_id)


def _is_judged(metric: str) -> bool:
    return metric.startswith("eval/")


def _end(session: Session, entry: SweepRun, sweep: Sweep, verdict: Verdict, *, job_id: str) -> None:
    text = (
        f"Ended by the sweep {sweep.name}: at step {verdict.step} its {sweep.metric} is number "
        f"{verdict.place} of {verdict.of}, and the best {verdict.keeps} go on."
    )
    entry.ended = {
        "rung": verdict.rung,
        "step": verdict.step,
        "value": verdict.value,
        "place": verdict.place,
        "of": verdict.of,
        "text": text,
    }
    log = {"level": "info", "text": text}
    event = JobEvent(seq=0, type=EventType.LOG, at=utc_now(), step=verdict.step, values=log)
    jobs.append_events(session, job_id, [event])
    jobs.request_stop(session, job_id=job_id, mode=StopMode.SAVE)
