"""The demo in one click. Translation only."""

from fastapi import APIRouter
from starlette.responses import Response

from app.demo import service
from app.dependencies import Member, SessionDep
from app.errors import AppError
from web.htmx import HtmxDep, Toast, hx_redirect

router = APIRouter()


@router.post("/demo", name="pages.demo")
def launch(session: SessionDep, actor: Member, htmx: HtmxDep) -> Response:
    """Launch the demo and open its run."""
    try:
        run = service.launch(session, actor=actor)
    except AppError as error:
        return hx_redirect("/", htmx, Toast(error.detail, "bad"))
    return hx_redirect(f"/runs/{run.id}", htmx)
