"""The queue: what each device does, what runs, waits and ended. Translation only."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.responses import Response

from app.auth.roles import Actor, require_owner
from app.auth.service import audit
from app.dependencies import CurrentUser, Member, SessionDep
from app.errors import Conflict
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.state import InvalidTransition, JobKind, StopMode
from app.runs import service as runs
from web.htmx import HtmxDep, Toast, redirect, toast
from web.pages.queue_view import Board, board
from web.rendering import render
from web.shell import ShellDep
from web.sidebar import sidebar

router = APIRouter()


@dataclass(frozen=True)
class QueuePage:
    """The front page."""

    template: ClassVar[str] = "queue/index.html"
    board: Board


@router.get("/", name="pages.queue")
def index(session: SessionDep, actor: CurrentUser, shell: ShellDep) -> Response:
    """Show the queue."""
    return render(QueuePage(board(session, actor=actor)), shell)


@router.get("/queue/board", name="pages.queue.board")
def board_alone(session: SessionDep, actor: CurrentUser, shell: ShellDep) -> Response:
    """Return the queue alone, as it stands now."""
    return render(board(session, actor=actor), shell)


@router.get("/sidebar/box", name="pages.sidebar")
def sidebar_box(session: SessionDep, actor: CurrentUser, shell: ShellDep) -> Response:
    """Return the sidebar's card alone."""
    del actor
    return render(sidebar(session), shell)


Action = Literal["save", "cancel", "pause", "resume", "retry"]
_DONE = {
    "save": "{title} saves a checkpoint, then ends.",
    "cancel": "{title} is stopped.",
    "pause": "{title} pauses at its next checkpoint.",
    "resume": "{title} is back in the queue and goes on from its last checkpoint.",
    "retry": "{title} is back in the queue.",
}


@router.post("/queue/{job_id}/{action}", name="pages.queue.act")
def act(  # FastAPI passes them by name
    job_id: str, action: Action, session: SessionDep, actor: Member, shell: ShellDep, htmx: HtmxDep
) -> Response:
    """Stop, pause, resume or retry a job from its row."""
    job = jobs.get(session, job_id)
    try:
        with session.begin_nested():
            _act(session, actor, job, action)
        message = Toast(_DONE[action].format(title=job.title))
    except (Conflict, InvalidTransition) as error:
        message = Toast(f"{job.title}: {getattr(error, 'detail', error)}", "bad")
    if not htmx.wants_fragment:
        return redirect("/", message)
    return toast(render(board(session, actor=actor), shell), message)


def _act(session: Session, actor: Actor, job: Job, action: Action) -> None:
    if job.kind == JobKind.TRAIN:
        _act_on_run(session, actor, job.subject_id, action)
        return
    require_owner(actor, job.owner_id)
    if action == "retry":
        jobs.retry(session, job_id=job.id, fresh=False)
    elif action == "resume":
        jobs.resume(session, job.id)
    else:
        jobs.request_stop(session, job_id=job.id, mode=StopMode(action))
    audit(
        session, actor=actor, action=f"job.{action}", subject_type="job", subject_id=job.id,
        detail={"name": job.title},
    )  # fmt: skip


def _act_on_run(session: Session, actor: Actor, run_id: str, action: Action) -> None:
    match action:
        case "save" | "cancel":
            runs.stop(session, actor=actor, run_id=run_id, mode=action)
        case "pause":
            runs.pause(session, actor=actor, run_id=run_id)
        case "resume":
            runs.resume(session, actor=actor, run_id=run_id)
        case "retry":
            runs.retry(session, actor=actor, run_id=run_id)
