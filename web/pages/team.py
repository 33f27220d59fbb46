"""The team: people and roles, invitations, and for admins the audit log. Translation only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.datastructures import FormData
from starlette.responses import Response

from app.auth import service, users
from app.auth.models import AuditRow, OneTimeLink, User, UserSession
from app.auth.roles import Role
from app.auth.users import Invitation
from app.datasets.arriving import quota
from app.demo import service as demo
from app.dependencies import (
    Admin,
    CurrentUser,
    PageParams,
    SessionDep,
    SettingsDep,
    absolute_url,
)
from app.errors import AppError, Conflict
from app.kit.pagination import PageRequest
from app.kit.schemas import Schema
from app.runs.models import Run
from web.audit_words import sentence
from web.forms import Form, parse, read_form, with_error
from web.htmx import HtmxDep, Toast, redirect
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/team")
Posted = Annotated[FormData, Depends(read_form)]


class InviteRequest(Schema):
    """The invitation form; without an e-mail whoever has the link chooses one."""

    email: str | None = Field(None, max_length=254)
    role: Role = Role.MEMBER


class RoleRequest(Schema):
    """The role chosen in the list."""

    role: Role


@dataclass(frozen=True)
class MemberRow:
    """A person in the list; ``seen_at`` is None for one who is signed in nowhere.

    ``bytes`` is what their datasets and open uploads take.
    """

    user: User
    runs: int
    seen_at: datetime | None
    bytes: int


@dataclass(frozen=True)
class AuditLine:
    """Who did what, when."""

    at: datetime
    name: str
    hue: int
    text: str


@dataclass(frozen=True)
class Audit:
    """The audit log, newest first."""

    template: ClassVar[str] = "team/_audit.html"
    lines: tuple[AuditLine, ...]
    total: int
    next: str | None


@dataclass(frozen=True)
class Invite:
    """The invitation dialog: a form, or the link that it made."""

    template: ClassVar[str] = "team/_invite.html"
    form: Form
    link: str | None = None
    made: Invitation | None = None


@dataclass(frozen=True)
class InvitePage:
    """The invitation form as a page of its own, for browsers without scripts."""

    template: ClassVar[str] = "team/invite.html"
    invite: Invite


@dataclass(frozen=True)
class TeamPage:
    """The people of this box."""

    template: ClassVar[str] = "team/index.html"
    members: tuple[MemberRow, ...]
    invitations: tuple[OneTimeLink, ...]
    inviters: dict[str, User]
    audit: Audit | None
    quota: int | None
    roles: tuple[str, ...] = tuple(role.value for role in Role)


@router.get("", name="pages.team")
def index(
    session: SessionDep, actor: CurrentUser, shell: ShellDep, settings: SettingsDep
) -> Response:
    """Show who is in the team; admins also see who takes how much room, and the audit log."""
    invitations = tuple(users.open_invitations(session)) if actor.is_admin else ()
    inviters = users.by_id(session, {link.created_by for link in invitations if link.created_by})
    audit = _audit(session, PageRequest(limit=20)) if actor.is_admin else None
    members, quota_bytes = _members(session), settings.user_quota_bytes
    return render(TeamPage(members, invitations, inviters, audit, quota_bytes), shell)


def _members(session: Session) -> tuple[MemberRow, ...]:
    people = users.list_users(session, page=PageRequest(limit=1000)).items
    runs = dict(session.execute(select(Run.owner_id, func.count()).group_by(Run.owner_id)).all())
    latest = func.max(UserSession.last_seen_at)
    browsers = select(UserSession.user_id, latest).group_by(UserSession.user_id)
    seen = {row[0]: row[1] for row in session.execute(browsers)}
    used = quota.by_person(session)
    return tuple(
        MemberRow(one, runs.get(one.id, 0), seen.get(one.id), used.get(one.id, 0))
        for one in people
        if one.email != demo.EMAIL  # owns the demo and is nobody
    )


@router.get("/audit", name="pages.team.audit")
def audit_log(session: SessionDep, actor: Admin, shell: ShellDep, page: PageParams) -> Response:
    """Return a page of the audit log alone."""
    del actor
    return render(_audit(session, page), shell)


def _audit(session: Session, page: PageRequest) -> Audit:
    found = service.list_audit(session, page=page)
    people = users.by_id(session, _people_of(found.items))
    runs = _run_names(session, found.items)
    names = runs | {key: user.name for key, user in people.items()}
    lines = tuple(_line(row, people, names) for row in found.items)
    return Audit(lines, found.total, found.next)


def _people_of(rows: Sequence[AuditRow]) -> set[str]:
    subjects = {row.subject_id for row in rows if row.subject_type == "user"}
    return subjects | {row.user_id for row in rows if row.user_id}


def _run_names(session: Session, rows: Sequence[AuditRow]) -> dict[str, str]:
    ids = {row.subject_id for row in rows if row.subject_type == "run"}
    return dict(session.execute(select(Run.id, Run.name).where(Run.id.in_(ids))).all())


def _line(row: AuditRow, people: dict[str, User], names: dict[str, str]) -> AuditLine:
    subject = names.get(row.subject_id, row.subject_id)
    own = row.user_id or (row.subject_id if row.action == "user.create" else None)
    who = people.get(own or "")
    text = sentence(row.action, subject=subject, detail=row.detail)
    return AuditLine(row.at, who.name if who else "Tunebox", who.hue if who else 0, text)


@router.get("/invite", name="pages.team.invite")
def invite_form(actor: Admin, shell: ShellDep, htmx: HtmxDep) -> Response:
    """Show the invitation form, in a dialog or as a page."""
    del actor
    shown = Invite(Form())
    return render(shown if htmx.wants_fragment else InvitePage(shown), shell)


@router.post("/invite", name="pages.team.invite.post")
def invite(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    actor: Admin,
    shell: ShellDep,
    htmx: HtmxDep,
    posted: Posted,
) -> Response:
    """Make an invitation and show its link, once."""
    parsed = parse(posted, InviteRequest)
    status, shown = 422, Invite(parsed.form)
    if parsed.data is not None:
        try:
            made = users.invite(session, actor=actor, **parsed.data.model_dump())
            link = absolute_url(request, settings, made.path or "/")
            status, shown = 200, Invite(Form(), link, made)
        except AppError as error:
            status, shown = error.status, Invite(with_error(parsed.form, error))
    page = shown if htmx.wants_fragment else InvitePage(shown)
    return render(page, shell, status=status)


@router.post("/{user_id}/role", name="pages.team.role")
def change_role(user_id: str, session: SessionDep, actor: Admin, posted: Posted) -> Response:
    """Give a person another role."""
    parsed = parse(posted, RoleRequest)
    if parsed.data is None:
        return redirect("/team", Toast("Choose admin, member or viewer.", "bad"))
    try:
        user = users.change_role(session, actor=actor, user_id=user_id, role=parsed.data.role)
    except Conflict as error:
        return redirect("/team", Toast(error.detail, "bad"))
    return redirect("/team", Toast(f"{user.name} is {user.role} now."))


@router.post("/{user_id}/disable", name="pages.team.disable")
def disable(user_id: str, session: SessionDep, actor: Admin) -> Response:
    """Let a person in no more."""
    user = users.disable(session, actor=actor, user_id=user_id)
    return redirect("/team", Toast(f"{user.name} is signed out and cannot enter any more."))


@router.post("/{user_id}/enable", name="pages.team.enable")
def enable(user_id: str, session: SessionDep, actor: Admin) -> Response:
    """Let a disabled person in again."""
    user = users.enable(session, actor=actor, user_id=user_id)
    return redirect("/team", Toast(f"{user.name} can sign in again."))
