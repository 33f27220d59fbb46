"""The frame around every request: host check, request id, security headers, one log line.

Plain ASGI, so that streams and sockets pass untouched. Knows no feature and no route.
"""

import re
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import AppError
from app.kit.ids import new_id
from app.settings import Settings

log = structlog.get_logger(__name__)

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_QUIET = ("/static/", "/healthz", "/readyz", "/metrics")


class WrongHost(AppError):
    """The request names a host that is not ours (DNS rebinding)."""

    status = 421
    code = "wrong_host"
    title = "Wrong host"


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """Return the host names we answer to, or None for any (bound to more than this machine)."""
    if settings.host not in _LOOPBACK:
        return None
    public = urlsplit(settings.public_url or "").hostname
    return _LOOPBACK | ({public} if public else set())


class Frame:
    """The middleware. ``refuse`` and ``crash`` make the answers, so that none is made here.

    ``security`` are the headers that every answer carries unless it has set its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        security: Mapping[str, str],
        refuse: Callable[[Request, AppError], Response],
        crash: Callable[[Request, str], Response],
    ) -> None:
        self._app, self._refuse, self._crash = app, refuse, crash
        self._security = security
        self._hosts = allowed_hosts(settings)
        self._https = (settings.public_url or "").startswith("https://")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass HTTP through the frame; sockets through the host check; all else untouched."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket" and self._wrong_host(scope):
            await send({"type": "websocket.close", "code": 4403})
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        started, status = time.perf_counter(), 0
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(
                    message, request_id, https=self._https or scope["scheme"] == "https"
                )
            await send(message)

        try:
            await self._answer(scope, receive, framed)
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # too late for another answer; the server cuts the connection
            await self._crash(Request(scope), request_id)(scope, receive, framed)
        if not scope["path"].startswith(_QUIET):
            taken = round((time.perf_counter() - started) * 1000, 1)
            log.info("request", method=scope["method"], path=scope["path"], status=status, ms=taken)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        wrong = self._wrong_host(scope)
        if wrong is None:
            await self._app(scope, receive, send)
            return
        error = WrongHost(
            f"This server does not answer for the host {wrong[:100]!r}. Behind a proxy, set "
            "TUNEBOX_PUBLIC_URL to the address that browsers use."
        )
        await self._refuse(Request(scope), error)(scope, receive, send)

    def _wrong_host(self, scope: Scope) -> str | None:
        host = Headers(scope=scope).get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        return None if self._hosts is None or name in self._hosts else host

    def _add_headers(self, message: Message, request_id: str, *, https: bool) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in self._security.items():
            headers.setdefault(name, value)
        headers["X-Request-Id"] = request_id
        headers.setdefault("Cache-Control", "no-cache, private")
        if https:
            headers["Strict-Transport-Security"] = "max-age=31536000"
