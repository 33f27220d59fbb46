"""What may be done to a run from its page: pause, resume, stop, cancel, retry.

Stop and retry open a dialog that says what is kept and what is lost; without scripts the same
form is a page. Rules live in ``app.runs.service``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Depends, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.auth.roles import require_owner
from app.dependencies import Member, SessionDep, SettingsDep
from app.errors import AppError
from app.jobs.state import JobStatus
from app.runs import service, views
from app.runs.views import Checkpoint, RunView
from app.settings import Settings
from web.forms import Form, flat, read_form, with_error
from web.htmx import HtmxDep, Toast, hx_redirect, redirect
from web.pages import run_fields
from web.pages.run_fields import FIELDS
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/runs/{run_id}")

PostedForm = Annotated[FormData, Depends(read_form)]

# What a retry offers to change: what decides about memory and about a diverging loss.
RETRY_FIELDS = (
    "training.learning_rate",
    "training.batch_size",
    "training.gradient_accumulation",
    "training.max_length",
    "training.max_grad_norm",
)


@dataclass(frozen=True)
class Stop:
    """What a stop keeps and what it loses, to choose from."""

    template: ClassVar[str] = "runs/_stop.html"
    view: RunView
    checkpoint: Checkpoint | None
    form: Form
    only_cancel: bool


@dataclass(frozen=True)
class StopPage:
    """The same, as a page of its own."""

    template: ClassVar[str] = "runs/stop.html"
    stop: Stop


@dataclass(frozen=True)
class Retry:
    """Where to go on from, and what to change."""

    template: ClassVar[str] = "runs/_retry.html"
    view: RunView
    checkpoint: Checkpoint | None
    form: Form
    fields: tuple[tuple[run_fields.FormField, str, str], ...]


@dataclass(frozen=True)
class RetryPage:
    """The same, as a page of its own."""

    template: ClassVar[str] = "runs/retry.html"
    retry: Retry


@router.post("/pause", name="pages.run_pause")
def pause(session: SessionDep, actor: Member, htmx: HtmxDep, run_id: str) -> Response:
    """Save a checkpoint and give the device back."""
    service.pause(session, actor=actor, run_id=run_id)
    return hx_redirect(f"/runs/{run_id}", htmx, Toast("It pauses at its next step."))


@router.post("/resume", name="pages.run_resume")
def resume(session: SessionDep, actor: Member, htmx: HtmxDep, run_id: str) -> Response:
    """Queue a paused run again."""
    service.resume(session, actor=actor, run_id=run_id)
    return hx_redirect(f"/runs/{run_id}", htmx, Toast("Added to the queue."))


@router.get("/stop", name="pages.run_stop")
def ask_stop(
    session: SessionDep,
    settings: SettingsDep,
    actor: Member,
    shell: ShellDep,
    htmx: HtmxDep,
    run_id: str,
) -> Response:
    """Ask what a stop shall keep."""
    view = service.get_view(session, run_id)
    require_owner(actor, view.run.owner_id)
    if view.status.is_final:
        return redirect(f"/runs/{run_id}", Toast(f"It is {view.status} already.", "warn"))
    dialog = Stop(view, _last_kept(session, settings, view), Form(), not view.status.is_live)
    return render(dialog if htmx.wants_fragment else StopPage(dialog), shell)


def _last_kept(session: Session, settings: Settings, view: RunView) -> Checkpoint | None:
    saved = views.checkpoints(session, settings, run=view.run)
    return next((one for one in saved if one.kept), None)


@router.post("/stop", name="pages.run_stop_now")
def stop(
    session: SessionDep,
    actor: Member,
    htmx: HtmxDep,
    run_id: str,
    posted: PostedForm,
) -> Response:
    """End the run, keeping or dropping its work."""
    mode: Literal["save", "cancel"] = "cancel" if posted.get("mode") == "cancel" else "save"
    service.stop(session, actor=actor, run_id=run_id, mode=mode)
    text = "It stops and keeps its work." if mode == "save" else "It is being cancelled."
    return hx_redirect(f"/runs/{run_id}", htmx, Toast(text))


@router.get("/retry", name="pages.run_retry")
def ask_retry(
    session: SessionDep,
    settings: SettingsDep,
    actor: Member,
    shell: ShellDep,
    htmx: HtmxDep,
    run_id: str,
) -> Response:
    """Ask from where and with what changes."""
    view = service.get_view(session, run_id)
    require_owner(actor, view.run.owner_id)
    if view.status not in {JobStatus.FAILED, JobStatus.CANCELLED}:
        return redirect(f"/runs/{run_id}", Toast(f"It is {view.status}; nothing to retry.", "warn"))
    dialog = _retry(session, settings, view, Form())
    return render(dialog if htmx.wants_fragment else RetryPage(dialog), shell)


def _retry(session: Session, settings: Settings, view: RunView, form: Form) -> Retry:
    config = view.spec.config.model_dump(mode="json")
    proposed = _proposed(view)
    fields = tuple(
        (FIELDS[path], run_fields.shown(FIELDS[path], run_fields.value_at(config, path)),
         run_fields.shown(FIELDS[path], proposed.get(path, run_fields.value_at(config, path))))
        for path in RETRY_FIELDS
    )  # fmt: skip
    return Retry(view, _last_kept(session, settings, view), form, fields)


def _proposed(view: RunView) -> dict[str, Any]:
    changes: Mapping[str, Any] = (view.failure or {}).get("changes") or {}
    return {name.removeprefix("config."): value for name, value in changes.items()}


@router.post("/retry", name="pages.run_retry_now")
def retry(
    session: SessionDep,
    settings: SettingsDep,
    actor: Member,
    shell: ShellDep,
    htmx: HtmxDep,
    run_id: str,
    posted: PostedForm,
) -> Response:
    """Queue the run again; a wrong change comes back at its field."""
    values = flat(posted)
    start: Literal["checkpoint", "start"] = (
        "start" if values.get("from") == "start" else "checkpoint"
    )
    view = service.get_view(session, run_id)
    try:
        with session.begin_nested():
            changes = _changes(values, view)
            service.retry(session, actor=actor, run_id=run_id, start=start, changes=changes)
    except AppError as error:
        dialog = _retry(session, settings, view, with_error(Form(values=values), error))
        shown = dialog if htmx.wants_fragment else RetryPage(dialog)
        return render(shown, shell, status=error.status)
    return hx_redirect(f"/runs/{run_id}", htmx, Toast("Added to the queue."))


def _changes(values: Mapping[str, str], view: RunView) -> dict[str, Any]:
    """Return what was changed: the text of a field, or JSON for one that has no control here."""
    config = view.spec.config.model_dump(mode="json")
    changes: dict[str, Any] = {}
    for name, text in values.items():
        path = name.removeprefix("changes.")
        if path == name or not text:
            continue
        field = FIELDS.get(path)
        if field is None:
            changes[path] = _from_json(text)
        elif text != run_fields.shown(field, run_fields.value_at(config, path)):
            changes[path] = run_fields.parsed(field, text)
    return changes


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
