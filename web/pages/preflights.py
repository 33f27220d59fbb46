"""Trying a run on its device from the form, and the page of a preflight. Translation only.

With scripts the form stays and shows the result, which asks for itself until it is there; without,
the form leads to the preflight's page, which leads back with the proposed settings.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fastapi import APIRouter, Response

from app.dependencies import CurrentUser, Member, SessionDep
from app.errors import AppError
from app.preflights import service
from app.preflights.service import View
from app.runs.trying import Mode
from web.forms import Form, flat, with_error
from web.htmx import HtmxDep, Toast, redirect
from web.pages import new_run, run_setup
from web.pages.new_run import PostedForm
from web.pages.preflight_view import Place, Result, result_of
from web.rendering import render
from web.shell import ShellDep

router = APIRouter()


@dataclass(frozen=True)
class PreflightPage:
    """A preflight: what was tried, what was measured, and the way back to the form."""

    template: ClassVar[str] = "preflights/detail.html"
    view: View
    result: Result
    may_stop: bool


@router.post("/runs/new/try", name="pages.runs.try")
def try_it(
    session: SessionDep, actor: Member, shell: ShellDep, htmx: HtmxDep, posted: PostedForm
) -> Response:
    """Try what the form says on its device; or show what is wrong, at its field."""
    choice = new_run.posted_choice(posted)
    wanted = flat(posted).get("mode", "")
    mode = Mode(wanted) if wanted in set(Mode) else Mode.CHECK
    try:
        request = new_run.request_of(choice)
        with session.begin_nested():
            made = service.create(session, actor=actor, request=request, mode=mode)
    except AppError as error:
        form = with_error(Form(values=flat(posted)), new_run.at_fields(error))
        drawn = run_setup.setup_of(session, actor, choice, form)
        return render(new_run.answer(drawn, htmx), shell, status=error.status)
    if not htmx.wants_fragment:
        return redirect(f"/preflights/{made.id}")
    return render(run_setup.setup_of(session, actor, new_run.tried(choice, made.id)), shell)


@router.get("/preflights/{preflight_id}", name="pages.preflight")
def detail(session: SessionDep, actor: CurrentUser, shell: ShellDep, preflight_id: str) -> Response:
    """Show a preflight."""
    view = service.view(session, preflight_id)
    may_stop = actor.owns(view.preflight.owner_id) and view.status == "running"
    return render(PreflightPage(view, result_of(view, place="page"), may_stop), shell)


@router.get("/preflights/{preflight_id}/result", name="pages.preflight.result")
def result(
    session: SessionDep,
    _actor: CurrentUser,
    shell: ShellDep,
    preflight_id: str,
    place: Literal["form", "page", "run"] = "page",
) -> Response:
    """Return how it stands now."""
    where: Place = place
    return render(result_of(service.view(session, preflight_id), place=where), shell)


@router.post("/preflights/{preflight_id}/stop", name="pages.preflight.stop")
def stop(session: SessionDep, actor: Member, preflight_id: str) -> Response:
    """Give it up."""
    service.stop(session, actor=actor, preflight_id=preflight_id)
    return redirect(f"/preflights/{preflight_id}", Toast("It stops."))
