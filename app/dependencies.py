"""What endpoints and pages ask FastAPI for: a session, the actor, a page of a list.

The only place with ``Annotated`` dependencies. Every route declares exactly one permission:
``CurrentUser`` (any signed-in person may read), ``Member`` (may change), ``Admin``, or
``dependencies=[Public]``; a socket declares ``SocketActor``. A contract test walks all routes.
Knows no feature but ``auth``.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends, Header, Query, Request, WebSocket
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from app.auth import csrf, roles, service
from app.auth.roles import Actor
from app.errors import Forbidden, TooLarge, Unauthenticated, Unavailable
from app.kit.db import transaction
from app.kit.pagination import PageRequest
from app.settings import Settings, get_settings

SESSION_COOKIE = "tunebox_session"
_MAX_FORM_BYTES = 2 * 2**20
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

SettingsDep = Annotated[Settings, Depends(get_settings)]

OpenSession = Callable[[], AbstractContextManager[Session]]


def get_open_session(settings: SettingsDep) -> OpenSession:
    """Return what opens a transaction; for sockets, which must not hold one. Tests override it."""
    url = settings.database_url
    if url is None:
        raise Unavailable("No database is set. Start with `tunebox up`, or set DATABASE_URL.")
    return lambda: transaction(url)


OpenSessionDep = Annotated[OpenSession, Depends(get_open_session)]


def get_session(open_session: OpenSessionDep) -> Iterator[Session]:
    """Open the request's one transaction: committed before the answer leaves."""
    with open_session() as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session, scope="function")]


def bearer(connection: HTTPConnection) -> str | None:
    """Return the token of ``Authorization: Bearer …``, or None if there is none."""
    kind, _, value = connection.headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" and value.strip() else None


async def _csrf_field(request: Request) -> str | None:
    """Return the token of a form post without the header. Multipart bodies are left unread."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method in _SAFE_METHODS or csrf.HEADER in request.headers:
        return request.headers.get(csrf.HEADER)
    if kind != "application/x-www-form-urlencoded":
        return None
    if int(request.headers.get("content-length", "0") or 0) > _MAX_FORM_BYTES:
        raise TooLarge("The form is too long; send at most 2 MiB.")
    fields = parse_qs((await request.body()).decode("latin-1"))
    return fields.get(csrf.FIELD, [None])[0]


def _signed_in(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    csrf_token: Annotated[str | None, Depends(_csrf_field)],
) -> Actor:
    """Return who asks, by token or by cookie; a browser's change must prove its origin."""
    return authenticate(request, session, settings, csrf_token)


def authenticate(
    request: Request, session: Session, settings: Settings, csrf_token: str | None
) -> Actor:
    """Return who asks, as ``_signed_in`` promises."""
    value = bearer(request)
    if value is not None:
        actor = service.actor_from_token(session, value)
        if actor is None:
            raise Unauthenticated("This token is unknown, expired or revoked. Make a new one.")
    else:
        actor = service.actor_from_session_cookie(session, request.cookies.get(SESSION_COOKIE))
        if actor is None:
            raise Unauthenticated("Sign in, or send a token: `Authorization: Bearer tb_…`.")
        if request.method not in _SAFE_METHODS:
            csrf.check_origin(request.headers, settings=settings)
            csrf.check_token(request.headers, given=csrf_token, expected=actor.csrf_token)
    request.state.actor = actor
    return actor


SignedIn = Annotated[Actor, Depends(_signed_in)]


def upload_actor(request: Request, open_session: OpenSessionDep, settings: SettingsDep) -> Actor:
    """Let through who may change things, in a transaction that ends before the upload begins."""
    with open_session() as session:
        actor = authenticate(request, session, settings, request.headers.get(csrf.HEADER))
        roles.require_write(actor)
        return actor


def current_user(actor: SignedIn) -> Actor:
    """Let any signed-in person through."""
    return actor


def member(actor: SignedIn) -> Actor:
    """Let through who may change things."""
    roles.require_write(actor)
    return actor


def admin(actor: SignedIn) -> Actor:
    """Let admins through."""
    roles.require_admin(actor)
    return actor


def public() -> None:
    """Let everybody through; said explicitly, so that no route is open by accident."""


def same_origin(request: Request, settings: SettingsDep) -> None:
    """Refuse a post that another site's page sent; for forms before there is a session."""
    csrf.check_origin(request.headers, settings=settings)


CurrentUser = Annotated[Actor, Depends(current_user)]
Member = Annotated[Actor, Depends(member)]
Admin = Annotated[Actor, Depends(admin)]
UploadActor = Annotated[Actor, Depends(upload_actor)]
Public: Any = Depends(public)
SameOrigin: Any = Depends(same_origin)


def local(request: Request, session: SessionDep) -> None:
    """Let through requests from this machine, and tokens from elsewhere."""
    if client_address(request) in _LOOPBACK:
        return
    if service.actor_from_token(session, bearer(request)) is None:
        raise Unauthenticated("From another machine, send a token: `Authorization: Bearer tb_…`.")


Local: Any = Depends(local)


def optional_actor(request: Request, session: SessionDep) -> Actor | None:
    """Return who is signed in by cookie, or None; for the few public pages."""
    return service.actor_from_session_cookie(session, request.cookies.get(SESSION_COOKIE))


OptionalActor = Annotated[Actor | None, Depends(optional_actor)]


async def socket_actor(
    websocket: WebSocket, open_session: OpenSessionDep, settings: SettingsDep
) -> Actor | None:
    """Return who opens a socket, or None: accept, then close with 4401.

    A cookie counts only from our own origin. The transaction ends here: a socket holds none.
    """
    value, cookie = bearer(websocket), websocket.cookies.get(SESSION_COOKIE)

    def find() -> Actor | None:
        with open_session() as session:
            if value is not None:
                return service.actor_from_token(session, value)
            return service.actor_from_session_cookie(session, cookie)

    if value is None:
        try:
            csrf.check_origin(websocket.headers, settings=settings)
        except Forbidden:
            return None
    return await run_in_threadpool(find)


SocketActor = Annotated[Actor | None, Depends(socket_actor)]


def page_params(
    limit: Annotated[int, Query(ge=1, le=1000)] = 50, cursor: Annotated[str | None, Query()] = None
) -> PageRequest:
    """Return which page of a list is asked for."""
    return PageRequest(limit=limit, cursor=cursor)


PageParams = Annotated[PageRequest, Depends(page_params)]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)
]


def client_address(connection: HTTPConnection) -> str:
    """Return the address of the other side, as the server (or its trusted proxy) tells it."""
    return connection.client.host if connection.client else ""


def absolute_url(connection: HTTPConnection, settings: Settings, path: str) -> str:
    """Return ``path`` as a URL that works in another browser."""
    base = settings.public_url or str(connection.base_url)
    return base.rstrip("/") + path
