"""Signing in and out, and the one-time links that make accounts. Translation only."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.datastructures import FormData
from starlette.responses import Response

from app.auth import service, users
from app.auth.models import OneTimeLink, User
from app.dependencies import (
    SESSION_COOKIE,
    CurrentUser,
    OptionalActor,
    Public,
    SameOrigin,
    SessionDep,
    SettingsDep,
    client_address,
)
from app.errors import AppError, NotFound
from app.kit.schemas import Schema
from app.settings import Settings
from web.forms import Form, parse, read_form, with_error
from web.htmx import redirect
from web.rendering import render
from web.shell import BareShellDep

router = APIRouter()
Posted = Annotated[FormData, Depends(read_form)]


class LoginRequest(Schema):
    """What the login form sends."""

    email: str = Field(max_length=254)
    password: str = Field(max_length=1000)
    keep: bool = False
    next: str = "/"


class JoinRequest(Schema):
    """What the form behind a one-time link sends."""

    email: str = Field("", max_length=254)
    name: str = Field("", max_length=200)
    password: str = Field(max_length=1000)


@dataclass(frozen=True)
class LoginPage:
    """The login form, and where it leads."""

    template: ClassVar[str] = "entering/login.html"
    form: Form
    next: str


@dataclass(frozen=True)
class JoinPage:
    """The form behind a one-time link: the first admin's, or an invitation's."""

    template: ClassVar[str] = "entering/join.html"
    form: Form
    is_first: bool
    email: str | None
    role: str
    secret: str


@router.get("/login", dependencies=[Public], name="pages.login")
def login_page(shell: BareShellDep, actor: OptionalActor, next: str = "/") -> Response:  # noqa: A002
    """Show the login form; who is signed in already goes on."""
    if actor is not None:
        return redirect(safe_next(next))
    return render(LoginPage(Form(), safe_next(next)), shell)


@router.post("/login", dependencies=[Public, SameOrigin], name="pages.login.post")
def login(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    shell: BareShellDep,
    posted: Posted,
) -> Response:
    """Sign in, or say at the field what is wrong."""
    parsed = parse(posted, LoginRequest)
    onward = safe_next(str(posted.get("next", "/")))
    if parsed.data is None:
        return render(LoginPage(parsed.form, onward), shell, status=422)
    address = client_address(request)
    try:
        user = service.login(
            session, email=parsed.data.email, password=parsed.data.password, address=address
        )
    except AppError as error:
        form = with_error(parsed.form, error)
        return render(LoginPage(form, onward), shell, status=error.status)
    if user is None:
        wrong = {"password": "E-mail and password do not belong together."}
        return render(LoginPage(Form(parsed.form.values, wrong), onward), shell, status=422)
    return _signed_in(request, session, settings, user, onward, keep=parsed.data.keep)


def safe_next(path: str) -> str:
    """Return ``path`` if it leads to a page of ours, else the queue."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"


def _signed_in(
    request: Request, session: Session, settings: Settings, user: User, onward: str, *, keep: bool
) -> Response:
    value = service.start_session(
        session,
        user=user,
        user_agent=request.headers.get("user-agent", ""),
        address=client_address(request),
    )
    is_https = (settings.public_url or str(request.base_url)).startswith("https://")
    response = redirect(onward)
    response.set_cookie(
        SESSION_COOKIE,
        value,
        max_age=service.SESSION_DAYS * 86400 if keep else None,
        httponly=True,
        samesite="lax",
        secure=is_https,
        path="/",
    )
    return response


@router.post("/logout", name="pages.logout")
def logout(session: SessionDep, actor: CurrentUser) -> Response:
    """End this browser's session."""
    service.logout(session, actor=actor)
    response = redirect("/login")
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


@router.get("/join/{secret}", dependencies=[Public], name="pages.join")
def join_page(secret: str, session: SessionDep, shell: BareShellDep) -> Response:
    """Show the form behind a one-time link."""
    link = users.open_link(session, secret=secret)
    return render(_join_page(link, secret, Form()), shell)


@router.post("/join/{secret}", dependencies=[Public, SameOrigin], name="pages.join.post")
def join(
    secret: str,
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    shell: BareShellDep,
    posted: Posted,
) -> Response:
    """Make the account and sign in."""
    link = users.open_link(session, secret=secret)
    parsed = parse(posted, JoinRequest)
    if parsed.data is None:
        return render(_join_page(link, secret, parsed.form), shell, status=422)
    try:
        with session.begin_nested():
            user = users.accept_link(session, secret=secret, **parsed.data.model_dump())
    except NotFound:
        raise
    except AppError as error:
        page = _join_page(link, secret, with_error(parsed.form, error))
        return render(page, shell, status=error.status)
    return _signed_in(request, session, settings, user, "/", keep=True)


def _join_page(link: OneTimeLink, secret: str, form: Form) -> JoinPage:
    is_first = link.purpose == users.FIRST_ADMIN
    return JoinPage(form, is_first, link.email, link.role, secret)
