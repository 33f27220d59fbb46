"""What the page of a run shows, gathered into its fragments. Reads through the services."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from app.auth.roles import Actor
from app.devices import service as devices
from app.devices.models import Device
from app.jobs import history
from app.jobs.history import Alert, History, Phase
from app.jobs.state import JobStatus
from app.kit.clock import utc_now
from app.metrics import service as metrics
from app.preflights import service as preflights
from app.runs import presets, views
from app.runs.views import Checkpoint, RunView
from app.settings import Settings
from web.filters import plain
from web.pages import preflight_view
from web.pages.preflight_view import Result
from web.pages.run_fields import FIELDS, GROUPS, value_at

LOG_LINES, LOG_LINES_FAILED = 12, 40
_RISING = 3  # validations above the best before the page says so
_TOLD_AS_RISING = "validation_rising"  # the watch's alert of the same
_STALLED = "stalled"  # the worker's alert of a run that stands still
_STARTING = ("Starting", "The trainer starts on its device.")
_RUNNING = {
    "trying": ("Trying", "A few real steps show whether it fits, before it starts."),
    "tried": _STARTING,
    "loading": ("Loading", "The base model is read into memory."),
    "preparing": ("Preparing", "Examples become tokens; this is kept for the next run."),
    "resumed": ("Training", ""),
    "training": ("Training", ""),
    "evaluating": ("Evaluating", "The base model against the tuned one, on held-out examples."),
    "saving": ("Saving", "The adapter is written."),
}
_PHASES = {
    "trying": "Trying",
    "loading": "Loading",
    "preparing": "Preparing",
    "training": "Training",
    "evaluating": "Evaluation",
    "saving": "Saving",
}


@dataclass(frozen=True)
class Header:
    """Name, state and what may be done."""

    template: ClassVar[str] = "runs/_header.html"
    view: RunView
    may_change: bool
    may_launch: bool


@dataclass(frozen=True)
class Progress:
    """How far the run is and when it ends; its phases; what it has done so far."""

    template: ClassVar[str] = "runs/_progress.html"
    view: RunView
    headline: str
    rest: str
    phases: tuple[Phase, ...]
    names: Mapping[str, str]
    upcoming: tuple[str, ...]
    last: Mapping[str, float | None]
    spent: float | None
    checkpoint: Checkpoint | None


@dataclass(frozen=True)
class Alerts:
    """What the user should know although the run goes on."""

    template: ClassVar[str] = "runs/_alerts.html"
    view: RunView
    alerts: tuple[Alert, ...]
    rising: "Rising | None"
    may_change: bool


@dataclass(frozen=True)
class Rising:
    """Validation loss that rises while training goes on."""

    times: int
    best: float
    best_step: int
    last: float
    last_step: int


@dataclass(frozen=True)
class Change:
    """A setting as it was and as a retry would have it."""

    path: str
    label: str
    before: str
    after: str
    value: str


@dataclass(frozen=True)
class Failure:
    """Why the run failed, and the next step as a difference."""

    template: ClassVar[str] = "runs/_failure.html"
    view: RunView
    failure: Mapping[str, Any] | None
    changes: tuple[Change, ...]
    checkpoint: Checkpoint | None
    may_change: bool


@dataclass(frozen=True)
class Setting:
    """A setting of the run, why it has its value, and whether someone chose it."""

    path: str
    label: str
    value: str
    reason: str
    is_chosen: bool


@dataclass(frozen=True)
class RunSettings:
    """What runs, complete."""

    template: ClassVar[str] = "runs/_settings.html"
    view: RunView
    groups: tuple[tuple[str, tuple[Setting, ...]], ...]
    chosen: int


@dataclass(frozen=True)
class Checkpoints:
    """The states that the run can go on from."""

    template: ClassVar[str] = "runs/_checkpoints.html"
    view: RunView
    items: tuple[Checkpoint, ...]


@dataclass(frozen=True)
class DeviceCard:
    """The device that the run holds, with its last reading; or what it held at most."""

    template: ClassVar[str] = "runs/_device.html"
    view: RunView
    device: Device | None
    last: Mapping[str, float | None]


@dataclass(frozen=True)
class Log:
    """The end of the trainer's log."""

    template: ClassVar[str] = "runs/_log.html"
    view: RunView
    lines: tuple[str, ...]
    whole: bool


def may_change(actor: Actor, view: RunView) -> bool:
    """Tell whether the actor may stop, pause or retry this run."""
    return actor.owns(view.run.owner_id)


def header_of(actor: Actor, view: RunView) -> Header:
    """Gather the head of the page."""
    return Header(view, may_change(actor, view), actor.may_write)


def progress_of(session: Session, settings: Settings, view: RunView) -> Progress:
    """Gather the progress card."""
    job = view.job
    past = history.read(session, job_id=job.id)
    phases = tuple(phase for phase in past.phases if phase.name in _PHASES)
    seen = {phase.name for phase in phases}
    saved = views.checkpoints(session, settings, run=view.run)
    headline, rest = said(view)
    return Progress(
        view=view,
        headline=headline,
        rest=rest,
        phases=phases,
        names=_PHASES,
        upcoming=tuple(
            name for name in ("training", "evaluating") if name not in seen and view.status.is_live
        ),
        last=metrics.last_values(session, job_id=job.id),
        spent=_spent(job.started_at, job.finished_at),
        checkpoint=next((one for one in saved if one.kept), None),
    )


def _spent(started: datetime | None, ended: datetime | None) -> float | None:
    return ((ended or utc_now()) - started).total_seconds() if started else None


def said(view: RunView) -> tuple[str, str]:
    """Return the headline of a run's state, and the sentence after it (times are added later)."""
    job, status = view.job, view.status
    at = f"at step {job.step:,}"
    keeps = job.stop_mode != "cancel"
    short = job.total_steps is not None and job.step < job.total_steps
    words = {
        JobStatus.QUEUED: ("Waiting", view.waiting_reason or "A worker takes it in a moment."),
        JobStatus.STARTING: _STARTING,
        JobStatus.RUNNING: _RUNNING.get(job.phase or "", _STARTING),
        JobStatus.PAUSING: ("Pausing", "It saves a checkpoint and gives the device back."),
        JobStatus.PAUSED: (f"Paused {at}", "It goes on from its last checkpoint when resumed."),
        JobStatus.STOPPING: (
            "Stopping",
            "It saves its work first." if keeps else "Its work is dropped.",
        ),
        JobStatus.CANCELLED: (f"Cancelled {at}", "Its curves and log stay."),
        JobStatus.FAILED: (f"Failed {at}", ""),
        JobStatus.SUCCEEDED: ("Done", f"It ended early, {at}." if short else ""),
    }
    return words[status]


def alerts_of(session: Session, actor: Actor, view: RunView) -> Alerts:
    """Gather the alerts of the last attempt."""
    past = history.read(session, job_id=view.job.id)
    rising = _rising(session, view) if view.status is JobStatus.RUNNING else None
    told = tuple(
        one
        for one in past.alerts
        if not (rising and one.code == _TOLD_AS_RISING) and not _is_over(one, view.job.step)
    )
    return Alerts(view, told, rising, may_change(actor, view))


def _is_over(alert: Alert, step: int) -> bool:
    """Tell whether an alert is of a stall behind which the run has gone on."""
    return alert.code == _STALLED and alert.step is not None and step > alert.step


def _rising(session: Session, view: RunView) -> Rising | None:
    found = metrics.series(session, job_id=view.job.id, names=["eval/loss"])["series"]
    curve = found.get("eval/loss", {"step": [], "value": []})
    points = [(s, v) for s, v in zip(curve["step"], curve["value"], strict=True) if v is not None]
    if len(points) <= _RISING:
        return None
    best_step, best = min(points, key=lambda point: point[1])
    after = [point for point in points if point[0] > best_step]
    values = [best, *(value for _, value in after)]
    if len(after) < _RISING or any(b <= a for a, b in pairwise(values)):
        return None
    return Rising(len(after), best, best_step, after[-1][1], after[-1][0])


def failure_of(session: Session, settings: Settings, actor: Actor, view: RunView) -> Failure:
    """Gather the failure card; empty while there is none."""
    if view.status is not JobStatus.FAILED or not view.failure:
        return Failure(view, None, (), None, may_change=False)
    saved = views.checkpoints(session, settings, run=view.run)
    return Failure(
        view,
        view.failure,
        changes_of(view, view.failure.get("changes") or {}),
        next((one for one in saved if one.kept), None),
        may_change(actor, view),
    )


def changes_of(view: RunView, changes: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return proposed changes beside what the run has now."""
    config = view.spec.config.model_dump(mode="json")
    found: list[Change] = []
    for name, value in changes.items():
        path = name.removeprefix("config.")
        try:
            before = plain(value_at(config, path))
        except (KeyError, TypeError):
            continue  # an older trainer's field
        label = FIELDS[path].label if path in FIELDS else path
        found.append(Change(path, label, before, plain(value), json.dumps(value)))
    return tuple(found)


def settings_of(view: RunView) -> RunSettings:
    """Gather every setting with its reason."""
    config = view.spec.config.model_dump(mode="json")
    groups = tuple(
        (title, tuple(_setting(view, config, field.path) for field in fields))
        for title, fields in GROUPS
    )
    chosen = sum(setting.is_chosen for _, members in groups for setting in members)
    return RunSettings(view, groups, chosen)


def _setting(view: RunView, config: Mapping[str, Any], path: str) -> Setting:
    field, value = FIELDS[path], value_at(config, path)
    reason = str(view.run.reasons.get(path, ""))
    shown = dict(field.choices).get(str(value).lower(), plain(value))
    if field.percent and isinstance(value, float):
        shown = f"{value * 100:.3g} %"
    elif field.unit and value is not None and not field.percent:
        shown = f"{shown} {field.unit}"
    is_chosen = reason == presets.CHOSEN or reason.startswith("Changed for")
    return Setting(path, field.label, shown, reason, is_chosen)


def checkpoints_of(session: Session, settings: Settings, view: RunView) -> Checkpoints:
    """Gather the checkpoints, newest first; those gone are left out."""
    items = views.checkpoints(session, settings, run=view.run)
    return Checkpoints(view, tuple(one for one in items if one.kept))


def device_of(session: Session, view: RunView) -> DeviceCard:
    """Gather the device card."""
    present: Sequence[Device] = devices.present(session) if view.status.is_live else []
    held = next((one for one in present if one.job_id == view.job.id), None)
    return DeviceCard(view, held, metrics.last_values(session, job_id=view.job.id))


def log_of(session: Session, settings: Settings, view: RunView) -> Log:
    """Gather the log's end; more of it where the run failed."""
    count = LOG_LINES_FAILED if view.status is JobStatus.FAILED else LOG_LINES
    tail = views.log_tail(session, settings, run=view.run, lines=count)
    return Log(view, tuple(tail.lines), tail.whole)


def result_of(session: Session, view: RunView) -> Result:
    """Gather what was tried before the run; empty where nothing was."""
    found = preflights.of_run(session, run_id=view.run.id)
    return preflight_view.result_of(found, place="run") if found else Result()


def past_of(session: Session, view: RunView) -> History:
    """Return the attempts of a run, and what the last one ran with."""
    return history.read(session, job_id=view.job.id)


def marks_of(session: Session, settings: Settings, view: RunView) -> str:
    """Return what the loss chart marks: the best checkpoint, and where the run failed."""
    saved = views.checkpoints(session, settings, run=view.run)
    best = next((one for one in saved if one.best), None)
    marks: list[dict[str, Any]] = []
    if best is not None:
        label = f"best, step {best.step:,}"
        marks.append({"step": best.step, "label": label, "colour": "ok", "left": True})
    if view.status is JobStatus.FAILED and view.failure:
        title = str(view.failure.get("title", "failed")).lower()
        marks.append({"step": view.job.step, "label": title, "colour": "bad"})
    return json.dumps(marks)
