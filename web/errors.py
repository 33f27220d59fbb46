"""Error pages and error toasts. Knows the errors of ``app``, no feature and no handler's wiring.

``app.error_handlers`` calls ``error_response`` for whatever is asked for outside ``/api``. A failed
fragment becomes a toast and leaves the page as it is; anything else becomes a page.
"""

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response

from app.errors import AppError
from web.htmx import Toast, htmx_of, toast
from web.rendering import render
from web.shell import bare_shell

_UNAUTHENTICATED, _CLIENT_END = 401, 500


@dataclass(frozen=True)
class ErrorPage:
    """One sentence on what is wrong, its cure, and a way on."""

    template: ClassVar[str] = "error.html"
    status: int
    title: str
    detail: str
    back: str
    is_ours: bool


def error_response(request: Request, error: AppError) -> Response:
    """Answer an expected failure: a toast for a fragment, sign-in for a stranger, else a page."""
    return error_page(request, status=error.status, title=error.title, detail=error.detail)


def error_page(request: Request, *, status: int, title: str, detail: str) -> Response:
    """Answer any failure with words of its own."""
    if status == _UNAUTHENTICATED:
        return _sign_in(request)
    if htmx_of(request).wants_fragment:
        response = Response(status_code=status, headers={"HX-Reswap": "none"})
        return toast(response, Toast(text=detail, kind="bad"))
    page = ErrorPage(
        status=status,
        title=title,
        detail=detail,
        back=_back(request),
        is_ours=status >= _CLIENT_END,
    )
    return render(page, bare_shell(request), status=status)


def _back(request: Request) -> str:
    """Return the page before this one, if it is ours; else the queue."""
    origin, here = str(request.base_url), str(request.url)
    before = request.headers.get("referer", "")
    is_ours = before.startswith(origin) and before != here
    return "/" + before.removeprefix(origin) if is_ours else "/"


def _sign_in(request: Request) -> Response:
    """Send a stranger to the login page, and back here afterwards."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    is_page = request.method == "GET" and not htmx_of(request).wants_fragment
    url = "/login" if wanted == "/" or not is_page else f"/login?next={quote(wanted, safe='')}"
    if htmx_of(request).is_htmx:
        return Response(status_code=_UNAUTHENTICATED, headers={"HX-Redirect": url})
    return Response(status_code=303, headers={"Location": url})
