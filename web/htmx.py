"""What a request from HTMX asks for, and the headers that answer it. Knows no feature.

A boosted link or form wants a whole page; an element with ``hx-target`` wants a fragment. A toast
travels with a fragment as an event, with a redirect in a short-lived cookie.
"""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal
from urllib.parse import quote, unquote

from fastapi import Depends, Request
from starlette.responses import RedirectResponse, Response

TOAST_COOKIE = "tunebox_toast"
_TOAST_SECONDS = 30


@dataclass(frozen=True)
class Htmx:
    """Whether a request comes from HTMX, and whether it wants a fragment or a page."""

    is_htmx: bool
    wants_fragment: bool
    target: str


def htmx_of(request: Request) -> Htmx:
    """Read the HX headers of ``request``."""
    is_htmx = request.headers.get("HX-Request") == "true"
    partial = is_htmx and request.headers.get("HX-Request-Type") == "partial"
    return Htmx(is_htmx, partial, request.headers.get("HX-Target", "").partition("#")[2])


HtmxDep = Annotated[Htmx, Depends(htmx_of)]


@dataclass(frozen=True)
class Toast:
    """A short message at the edge of the page; ``bad`` stays until closed."""

    text: str
    kind: Literal["ok", "warn", "bad"] = "ok"


def trigger(response: Response, event: str, detail: object = None) -> Response:
    """Let the browser dispatch ``event`` after the answer is swapped in."""
    known = json.loads(response.headers.get("HX-Trigger", "{}"))
    known[event] = detail if detail is not None else {}
    response.headers["HX-Trigger"] = json.dumps(known)  # ASCII only: headers are Latin-1
    return response


def toast(response: Response, message: Toast) -> Response:
    """Show ``message`` when ``response``, a fragment, arrives."""
    return trigger(response, "tb:toast", asdict(message))


def redirect(url: str, message: Toast | None = None) -> Response:
    """Send the browser on with GET after a change: 303, which HTMX follows as well."""
    response = RedirectResponse(url, status_code=303)
    if message is not None:
        keep_toast(response, message)
    return response


def hx_redirect(url: str, htmx: Htmx, message: Toast | None = None) -> Response:
    """Leave the page from within a fragment's form: HTMX loads ``url`` as a whole page."""
    if not htmx.wants_fragment:
        return redirect(url, message)
    response = Response(status_code=204, headers={"HX-Redirect": url})
    if message is not None:
        keep_toast(response, message)
    return response


def keep_toast(response: Response, message: Toast) -> None:
    """Keep ``message`` for the next page."""
    value = quote(json.dumps(asdict(message)))
    response.set_cookie(
        TOAST_COOKIE, value, max_age=_TOAST_SECONDS, httponly=True, samesite="lax", path="/"
    )


def kept_toast(request: Request) -> Toast | None:
    """Return the message that the last answer left for this page."""
    try:
        value = json.loads(unquote(request.cookies.get(TOAST_COOKIE, "")))
        return Toast(text=str(value["text"])[:500], kind=value["kind"])
    except (ValueError, KeyError, TypeError):
        return None
