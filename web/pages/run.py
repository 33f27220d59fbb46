"""The page of one run and its fragments, which refresh while it runs. Translation only.

What may be done to a run is in ``run_actions``; what is shown is gathered by ``run_view``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse

from app.dependencies import CurrentUser, PageParams, SessionDep, SettingsDep
from app.errors import NotFound
from app.evaluations import service as evaluations
from app.jobs.history import History
from app.jobs.models import Job
from app.runs import service, views
from app.runs.views import RunView
from web.pages import run_curves, run_evaluation, run_view
from web.pages.preflight_view import Result
from web.pages.run_evaluation import ITEMS_SHOWN, EvaluationCard, Which
from web.rendering import Page, render
from web.shell import ShellDep

router = APIRouter(prefix="/runs/{run_id}")

_LOG_LINES = 100_000


@dataclass(frozen=True)
class RunPage:
    """A run: how far it is, its curves, its log, its evaluation, what runs."""

    template: ClassVar[str] = "runs/detail.html"
    view: RunView
    job: Job
    curves: str
    main: run_curves.Curve
    rewards: tuple[run_curves.Curve, ...]
    marks: str
    past: History
    header: run_view.Header
    progress: run_view.Progress
    alerts: run_view.Alerts
    failure: run_view.Failure
    evaluation: EvaluationCard
    settings: run_view.RunSettings
    checkpoints: run_view.Checkpoints
    device: run_view.DeviceCard
    log: run_view.Log
    result: Result


def _view(session: SessionDep, run_id: str) -> RunView:
    return service.get_view(session, run_id)


ViewDep = Annotated[RunView, Depends(_view)]


@router.get("", name="pages.run")
def detail(
    session: SessionDep,
    settings: SettingsDep,
    actor: CurrentUser,
    shell: ShellDep,
    view: ViewDep,
) -> Response:
    """One run."""
    page = RunPage(
        view=view,
        job=view.job,
        curves=run_curves.curves_of(view),
        main=run_curves.main_of(view),
        rewards=run_curves.rewards_of(view),
        marks=run_view.marks_of(session, settings, view),
        past=run_view.past_of(session, view),
        header=run_view.header_of(actor, view),
        progress=run_view.progress_of(session, settings, view),
        alerts=run_view.alerts_of(session, actor, view),
        failure=run_view.failure_of(session, settings, actor, view),
        evaluation=run_evaluation.evaluation_of(session, view),
        settings=run_view.settings_of(view),
        checkpoints=run_view.checkpoints_of(session, settings, view),
        device=run_view.device_of(session, view),
        log=run_view.log_of(session, settings, view),
        result=run_view.result_of(session, view),
    )
    return render(page, shell)


Fragment = Literal[
    "header", "progress", "alerts", "failure", "evaluation", "checkpoints", "device", "log"
]


@router.get("/{fragment}", name="pages.run_fragment")
def fragment(
    session: SessionDep,
    settings: SettingsDep,
    actor: CurrentUser,
    shell: ShellDep,
    view: ViewDep,
    fragment: Fragment,
) -> Response:
    """A piece of the page, as it is now."""
    pieces: dict[Fragment, Callable[[], Page]] = {
        "header": lambda: run_view.header_of(actor, view),
        "progress": lambda: run_view.progress_of(session, settings, view),
        "alerts": lambda: run_view.alerts_of(session, actor, view),
        "failure": lambda: run_view.failure_of(session, settings, actor, view),
        "evaluation": lambda: run_evaluation.evaluation_of(session, view),
        "checkpoints": lambda: run_view.checkpoints_of(session, settings, view),
        "device": lambda: run_view.device_of(session, view),
        "log": lambda: run_view.log_of(session, settings, view),
    }
    return render(pieces[fragment](), shell)


@router.get("/items", name="pages.run_items")
def items(
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    page: PageParams,
    run_id: str,
    which: Annotated[Which, Query()] = "all",
) -> Response:
    """Some of the answers behind the evaluation."""
    del actor
    found = next(iter(evaluations.of_run(session, run_id=run_id)), None)
    if found is None:
        raise NotFound("This run has no evaluation yet.")
    few = page if page.limit <= 50 else type(page)(ITEMS_SHOWN, page.cursor)  # noqa: PLR2004
    return render(run_evaluation.items_of(session, found, which=which, page=few), shell)


@router.get("/log.txt", name="pages.run_log")
def log_file(
    session: SessionDep, settings: SettingsDep, actor: CurrentUser, view: ViewDep
) -> Response:
    """The trainer's log as text."""
    del actor
    tail = views.log_tail(session, settings, run=view.run, lines=_LOG_LINES)
    return PlainTextResponse(
        "\n".join(tail.lines) + "\n",
        headers={"Content-Disposition": f'attachment; filename="{view.run.id}-log.txt"'},
    )
