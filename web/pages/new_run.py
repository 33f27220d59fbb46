"""The new-run page: shows the form, reads what it says, launches. Rules live in ``app.runs``.

What the form looks like is ``run_setup``. What a user changed is what differs from the values that
the preset had put into the controls, so a changed preset keeps one's own values and replaces the
others.
"""

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.auth.roles import Actor
from app.dependencies import CurrentUser, Member, SessionDep
from app.errors import AppError
from app.preflights import service as preflights
from app.runs import service as runs
from app.runs.launching import EXCLUDE
from app.runs.models import Run
from app.runs.presets import nested
from app.runs.schemas import DatasetChoice, ResourceRequest, RunRequest
from app.runs.spec import MOST_DEVICES, Preset, RunSpec
from app.runs.trying import Mode
from web.forms import Form, flat, read_form, with_error
from web.htmx import HtmxDep, Toast, hx_redirect
from web.pages.run_fields import (
    FIELDS,
    SPLIT,
    changes,
    value_at,
)
from web.pages.run_setup import CARDS, Choice, Setup, setup_of
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/runs")


@dataclass(frozen=True)
class NewRunPage:
    """The page around the form."""

    template: ClassVar[str] = "runs/new.html"
    setup: Setup


def posted_choice(data: FormData) -> Choice:
    """Read what the form says."""
    values = flat(data)
    base: dict[str, str] = json.loads(values.get("base") or "{}")
    own = changes(values, base)
    if values.get(EXCLUDE) == "true":
        own[EXCLUDE] = True
    if field := values.get("use"):  # a one-click cure: {"field": value, …}
        own |= json.loads(field)
    preset = values.get("preset", "")
    known = preset in set(Preset)
    version = values.get("version", "")
    return Choice(
        dataset=values.get("dataset", ""),
        version=int(version) if version.isdigit() else None,
        base_model=values.get("base_model", ""),
        preset=Preset(preset) if known else Preset.BALANCED,
        name=values.get("name", ""),
        priority=values.get("priority", "normal"),
        note=values.get("note", ""),
        cards=_count(values.get(CARDS, "")),
        changed={} if values.get("reset") else own,
        preflight=values.get("preflight", ""),
        mode=values.get("mode", Mode.CHECK.value),
    )


def _count(text: str) -> int:
    return int(text) if text.isdecimal() and 1 <= int(text) <= MOST_DEVICES else 1


def tried(choice: Choice, preflight_id: str) -> Choice:
    """Return ``choice`` with the preflight that tries it."""
    return replace(choice, preflight=preflight_id)


def _like(session: Session, run_id: str) -> Choice:
    """Choose what another run was launched with."""
    run = runs.get(session, run_id)
    choice = _of_spec(RunSpec.model_validate(run.spec))
    return replace(choice, name=f"{run.name}-2"[:120], priority="normal", note="")


def _after(session: Session, preflight_id: str) -> Choice:
    """Choose what was tried, with what the preflight proposes."""
    view = preflights.view(session, preflight_id)
    choice = replace(_of_spec(view.spec), preflight=preflight_id, mode=view.preflight.mode)
    changes = view.proposed.changes if view.proposed else {}
    return replace(choice, changed={**choice.own, **changes})


def _of_spec(spec: RunSpec) -> Choice:
    config = spec.config.model_dump(mode="json")
    values: dict[str, Any] = {path: value_at(config, path) for path in FIELDS}
    return Choice(
        dataset=spec.dataset.id,
        version=spec.dataset.version,
        base_model=spec.base_model,
        preset=spec.preset,
        name=spec.name,
        priority=spec.priority,
        note=spec.note,
        cards=spec.resources.devices,
        changed={**values, EXCLUDE: spec.config.data.exclude_problem_rows},
    )


@router.get("/new", name="pages.runs.new")
def new(  # each is a query parameter or a dependency
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    dataset: str = "",
    version: int | None = None,
    base_model: str = "",
    preset: Preset = Preset.BALANCED,
    like: str = "",
    split: str = "",
    preflight: str = "",
) -> Response:
    """Show the form, filled in from the address, like another run, or as a preflight proposes."""
    if like:
        choice = _like(session, like)
    elif preflight:
        choice = _after(session, preflight)
    else:
        own = {SPLIT: split} if split else None
        choice = Choice(dataset, version, base_model, preset, changed=own)
    return render(NewRunPage(setup_of(session, actor, choice)), shell)


def request_of(choice: Choice) -> RunRequest:
    """Return the launch that the form asks for."""
    return RunRequest(
        name=choice.name or None,
        dataset=DatasetChoice(id=choice.dataset, version=choice.version),
        base_model=choice.base_model,
        preset=choice.preset,
        config=nested(choice.own),
        resources=ResourceRequest(devices=choice.cards),
        priority=choice.priority,  # pyright: ignore[reportArgumentType]  # checked by the schema
        note=choice.note,
    )


def _remember(session: Session, actor: Actor, choice: Choice, run: Run) -> None:
    """Show what was tried on the run's page, if that is what runs."""
    if choice.preflight:
        spec = RunSpec.model_validate(run.spec)
        preflights.attach(
            session, actor=actor, preflight_id=choice.preflight, run_id=run.id, spec=spec
        )


PostedForm = Annotated[FormData, Depends(read_form)]


@router.post("/new/setup", name="pages.runs.new.setup")
def setup(session: SessionDep, actor: Member, shell: ShellDep, posted: PostedForm) -> Response:
    """Return the form for what is chosen now."""
    return render(setup_of(session, actor, posted_choice(posted)), shell)


@router.post("/new", name="pages.runs.create")
def create(
    session: SessionDep, actor: Member, shell: ShellDep, htmx: HtmxDep, posted: PostedForm
) -> Response:
    """Add the run to the queue and open its page; or show what is wrong, at its field."""
    choice = posted_choice(posted)
    try:
        request = request_of(choice)
        with session.begin_nested():
            run = runs.create(session, actor=actor, request=request)
            _remember(session, actor, choice, run)
    except AppError as error:
        form = with_error(Form(values=flat(posted)), at_fields(error))
        drawn = setup_of(session, actor, choice, form)
        return render(answer(drawn, htmx), shell, status=error.status)
    return hx_redirect(f"/runs/{run.id}", htmx, Toast(f"{run.name} is in the queue."))


def answer(setup: Setup, htmx: HtmxDep) -> Setup | NewRunPage:
    """Return the form alone where the request wants a piece, else its page."""
    return setup if htmx.wants_fragment else NewRunPage(setup)


def at_fields(error: AppError) -> AppError:
    """Return ``error`` with the form's field names, which go without ``config.``."""
    fields = tuple(
        type(item)(item.field.removeprefix("config."), item.message) for item in error.errors
    )
    return AppError(error.detail, code=error.code, errors=fields)
