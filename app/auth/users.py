"""People: the first admin, invitations, roles. Knows no HTTP.

While there is no admin, each start makes a fresh one-time link and voids the one before. There is
always one admin who can sign in: the last one can be neither demoted nor disabled.
"""

import re
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.auth import passwords, repository
from app.auth.models import OneTimeLink, User
from app.auth.roles import Actor, Role
from app.auth.service import audit, secret_hash
from app.errors import Conflict, Invalid, NotFound
from app.kit.clock import utc_now
from app.kit.ids import new_id, new_secret
from app.kit.pagination import Page, PageRequest, encode_cursor

FIRST_ADMIN = "first_admin"
INVITATION = "invitation"
LINK_DAYS = 7
HUES = 6  # colours of people, as many as the charts have

_EMAIL = re.compile(r"[^@\s<>\"']{1,64}@[^@\s<>\"']{1,189}")
_MAX_NAME = 80


@dataclass(frozen=True)
class Invitation:
    """A link that makes an account, once. ``path`` holds the secret: known when it is made."""

    id: str
    path: str | None
    email: str | None
    role: Role
    expires_at: datetime


def first_admin_link(session: Session) -> str | None:
    """Return the path of a fresh link for the first admin, or None once there is one."""
    repository.lock_admins(session)
    if repository.count_admins(session):
        return None
    repository.void_links(session, purpose=FIRST_ADMIN, email=None, at=utc_now())
    return _new_link(session, purpose=FIRST_ADMIN, email=None, role=Role.ADMIN, creator=None).path


def create_first_admin(session: Session, *, email: str, password: str) -> User:
    """Make the first admin without a link (unattended start); refused once there is one."""
    repository.lock_admins(session)
    if repository.count_admins(session):
        raise Conflict(
            "There is an admin already, so TUNEBOX_ADMIN_EMAIL and TUNEBOX_ADMIN_PASSWORD are "
            "refused. Remove them and sign in with that account.",
            code="admin_exists",
        )
    return create_user(session, email=email, name="", role=Role.ADMIN, password=password)


def create_user(session: Session, *, email: str, name: str, role: Role, password: str) -> User:
    """Make an account. The name defaults to what stands before the @."""
    email = checked_email(email)
    passwords.check_strength(password, email=email)
    if repository.user_by_email(session, email) is not None:
        raise Invalid.field("email", "there is an account with this e-mail already; sign in")
    user = User(
        id=new_id("usr"),
        email=email,
        name=_checked_name(name) or email.partition("@")[0],
        role=role.value,
        hue=zlib.crc32(email.encode()) % HUES,
        password_hash=passwords.hashed(password),
    )
    session.add(user)
    session.flush()
    audit(
        session, actor=None, action="user.create", subject_type="user", subject_id=user.id,
        detail={"email": email, "role": role.value},
    )  # fmt: skip
    return user


def checked_email(email: str) -> str:
    """Return ``email`` in lower case if it can be one, else raise ``Invalid``."""
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email):
        raise Invalid.field("email", "write it like name@example.org")
    return email


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if len(name) > _MAX_NAME or not name.isprintable():
        raise Invalid.field("name", f"use at most {_MAX_NAME} printable characters")
    return name


def invite(session: Session, *, actor: Actor | None, email: str | None, role: Role) -> Invitation:
    """Return a fresh one-time link for a new account; an older one for the e-mail is void."""
    if email is not None:
        email = checked_email(email)
        if repository.user_by_email(session, email) is not None:
            raise Conflict(f"{email} has an account already.", code="user_exists")
        repository.void_links(session, purpose=INVITATION, email=email, at=utc_now())
    creator = actor.id if actor else None
    link = _new_link(session, purpose=INVITATION, email=email, role=role, creator=creator)
    audit(
        session, actor=actor, action="user.invite", subject_type="user", subject_id=email or "",
        detail={"role": role.value},
    )  # fmt: skip
    return link


def _new_link(
    session: Session, *, purpose: str, email: str | None, role: Role, creator: str | None
) -> Invitation:
    link_id, secret, ends = new_id("lnk"), new_secret(), utc_now() + timedelta(days=LINK_DAYS)
    session.add(
        OneTimeLink(
            id=link_id,
            token_hash=secret_hash(secret),
            purpose=purpose,
            email=email,
            role=role.value,
            created_by=creator,
            expires_at=ends,
        )
    )
    session.flush()
    return Invitation(link_id, f"/join/{secret}", email, role, ends)


def invitation(session: Session, *, link_id: str) -> Invitation:
    """Return an invitation without its secret."""
    link = session.get(OneTimeLink, link_id)
    if link is None:
        raise NotFound("There is no such invitation.")
    return Invitation(link.id, None, link.email, Role(link.role), link.expires_at)


def open_link(session: Session, *, secret: str) -> OneTimeLink:
    """Return the link with this secret if it still works, else raise ``NotFound``."""
    link = repository.link(session, secret_hash(secret))
    if link is None or link.used_at is not None or link.expires_at <= utc_now():
        raise NotFound(
            "This link has been used, replaced or is too old. Ask an admin for a new invitation; "
            "for the first account, restart Tunebox: it prints a fresh link.",
            code="link_not_valid",
        )
    return link


def accept_link(session: Session, *, secret: str, email: str, name: str, password: str) -> User:
    """Make the account that a one-time link stands for, and use the link up.

    The e-mail of an invitation is fixed when the admin named one.
    """
    repository.lock_admins(session)
    link = open_link(session, secret=secret)
    if link.purpose == FIRST_ADMIN and repository.count_admins(session):
        raise Conflict("There is an admin already. Sign in.", code="admin_exists")
    user = create_user(
        session, email=link.email or email, name=name, role=Role(link.role), password=password
    )
    link.used_at = utc_now()
    return user


def get(session: Session, *, user_id: str) -> User:
    """Return a user, disabled or not."""
    user = repository.user(session, user_id)
    if user is None:
        raise NotFound("There is no such user.")
    return user


def by_id(session: Session, ids: set[str]) -> dict[str, User]:
    """Return the users with these ids, by id, for lists that show owners."""
    return repository.users_by_id(session, ids)


def list_users(session: Session, *, page: PageRequest) -> Page[User]:
    """Return users by name, disabled ones too."""
    position = page.position(str, str)
    after = (position[0], position[1]) if position else None
    rows = list(repository.users(session, limit=page.limit + 1, after=after))
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    following = encode_cursor([rows[-1].name, rows[-1].id]) if more else None
    return Page(rows, following, repository.count_users(session))


def open_invitations(session: Session) -> list[OneTimeLink]:
    """Return invitations that still wait, newest first; their secrets are not known any more."""
    return list(repository.open_links(session, purpose=INVITATION, now=utc_now()))


def change_role(session: Session, *, actor: Actor, user_id: str, role: Role) -> User:
    """Give a user another role; the last admin stays one."""
    repository.lock_admins(session)
    user = get(session, user_id=user_id)
    if role is not Role.ADMIN:
        _require_another_admin(session, user)
    before, user.role = user.role, role.value
    session.flush()
    audit(
        session, actor=actor, action="user.role", subject_type="user", subject_id=user.id,
        detail={"from": before, "to": role.value},
    )  # fmt: skip
    return user


def disable(session: Session, *, actor: Actor, user_id: str) -> User:
    """Let a user in no more; sessions and tokens end, what the user made stays."""
    repository.lock_admins(session)
    user = get(session, user_id=user_id)
    if user.disabled_at is not None:
        return user
    _require_another_admin(session, user)
    user.disabled_at = utc_now()
    repository.delete_sessions(session, user_id=user.id)
    repository.revoke_tokens(session, user_id=user.id, at=utc_now())
    audit(session, actor=actor, action="user.disable", subject_type="user", subject_id=user.id)
    return user


def enable(session: Session, *, actor: Actor, user_id: str) -> User:
    """Let a disabled user in again."""
    user = get(session, user_id=user_id)
    user.disabled_at = None
    audit(session, actor=actor, action="user.enable", subject_type="user", subject_id=user.id)
    return user


def _require_another_admin(session: Session, user: User) -> None:
    is_admin = user.role == Role.ADMIN and user.disabled_at is None
    if is_admin and repository.count_admins(session) == 1:
        raise Conflict(
            "This is the last admin. Make another user an admin first.", code="last_admin"
        )
