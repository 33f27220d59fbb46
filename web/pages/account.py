"""One's own account: password, browsers that are signed in, API tokens. Translation only."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.datastructures import FormData
from starlette.responses import Response

from app.auth import service, tokens, users
from app.auth.models import ApiToken, UserSession
from app.auth.roles import DEFAULT_DAYS, MAX_DAYS, Actor, Scope
from app.dependencies import CurrentUser, SessionDep
from app.errors import AppError
from app.kit.pagination import PageRequest
from app.kit.schemas import Schema
from web.forms import Form, parse, read_form, with_error
from web.htmx import HtmxDep, Toast, redirect, toast
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/account")
Posted = Annotated[FormData, Depends(read_form)]


class PasswordRequest(Schema):
    """The form that changes a password."""

    current: str = Field(max_length=1000)
    new: str = Field(max_length=1000)


class TokenRequest(Schema):
    """The form that makes a token; ``days`` left out never ends."""

    name: str = Field(max_length=80)
    scope: Scope = Scope.READ
    days: int | None = Field(None, ge=1, le=MAX_DAYS)


@dataclass(frozen=True)
class TokenRow:
    """A token in the list; for an admin also other people's."""

    token: ApiToken
    owner: str | None


@dataclass(frozen=True)
class Tokens:
    """API tokens; ``value`` is the one just made, shown this once."""

    template: ClassVar[str] = "account/_tokens.html"
    rows: tuple[TokenRow, ...]
    form: Form
    value: str | None
    days: int
    may_write: bool


@dataclass(frozen=True)
class Password:
    """The form that changes the password."""

    template: ClassVar[str] = "account/_password.html"
    form: Form


@dataclass(frozen=True)
class AccountPage:
    """Everything of one's own."""

    template: ClassVar[str] = "account/index.html"
    person: Actor
    tokens: Tokens
    password: Password
    sessions: tuple[UserSession, ...]


def _tokens(session: Session, actor: Actor, form: Form, value: str | None = None) -> Tokens:
    found = tokens.list_tokens(session, actor=actor, page=PageRequest(limit=200)).items
    people = users.by_id(session, {row.user_id for row in found})
    rows = tuple(
        TokenRow(row, None if row.user_id == actor.id else people[row.user_id].name)
        for row in found
    )
    return Tokens(rows, form, value, DEFAULT_DAYS, actor.may_write)


def _page(session: Session, actor: Actor, shown: Tokens, password: Password) -> AccountPage:
    sessions = tuple(service.sessions(session, actor=actor))
    return AccountPage(actor, shown, password, sessions)


@router.get("", name="pages.account")
def index(session: SessionDep, actor: CurrentUser, shell: ShellDep) -> Response:
    """Show one's account."""
    shown = _tokens(session, actor, Form())
    return render(_page(session, actor, shown, Password(Form())), shell)


@router.post("/tokens", name="pages.account.tokens.create")
def create_token(
    session: SessionDep, actor: CurrentUser, shell: ShellDep, htmx: HtmxDep, posted: Posted
) -> Response:
    """Make a token and show its value, once."""
    parsed = parse(posted, TokenRequest)
    status, form, value = 422, parsed.form, None
    if parsed.data is not None:
        try:
            made = tokens.create(session, actor=actor, **parsed.data.model_dump())
            status, form, value = 200, Form(), made.value
        except AppError as error:
            status, form = error.status, with_error(parsed.form, error)
    shown = _tokens(session, actor, form, value)
    if htmx.wants_fragment:
        return render(shown, shell, status=status)
    return render(_page(session, actor, shown, Password(Form())), shell, status=status)


@router.post("/tokens/{token_id}/revoke", name="pages.account.tokens.revoke")
def revoke_token(
    token_id: str, session: SessionDep, actor: CurrentUser, shell: ShellDep, htmx: HtmxDep
) -> Response:
    """End a token now."""
    tokens.revoke(session, actor=actor, token_id=token_id)
    message = Toast("The token is revoked. Scripts that use it are refused from now on.")
    if not htmx.wants_fragment:
        return redirect("/account", message)
    return toast(render(_tokens(session, actor, Form()), shell), message)


@router.post("/password", name="pages.account.password")
def change_password(
    session: SessionDep, actor: CurrentUser, shell: ShellDep, htmx: HtmxDep, posted: Posted
) -> Response:
    """Set a new password; other browsers are signed out."""
    parsed = parse(posted, PasswordRequest)
    form = parsed.form
    if parsed.data is not None:
        try:
            service.change_password(session, actor=actor, **parsed.data.model_dump())
        except AppError as error:
            form = with_error(form, error)
        else:
            form = Form()
    message = Toast("Your password is changed. Your other browsers are signed out.")
    status = 422 if form.is_wrong else 200
    if htmx.wants_fragment:
        response = render(Password(form), shell, status=status)
        return response if form.is_wrong else toast(response, message)
    if not form.is_wrong:
        return redirect("/account", message)
    shown = _page(session, actor, _tokens(session, actor, Form()), Password(form))
    return render(shown, shell, status=status)


@router.post("/sessions/end", name="pages.account.sessions.end")
def end_sessions(session: SessionDep, actor: CurrentUser) -> Response:
    """Sign out everywhere but here."""
    service.end_other_sessions(session, actor=actor)
    return redirect("/account", Toast("Your other browsers are signed out."))
