"""Entering: signing in and out, sessions, who is behind a request, the audit trail.

Knows no HTTP. Secrets (cookies, tokens, links) are stored as hashes only. What people and tokens
there are is the business of ``users`` and ``tokens``.
"""

import hashlib
import math
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.auth import passwords, repository
from app.auth.models import ApiToken, AuditRow, LoginAttempt, User, UserSession
from app.auth.roles import Actor, Role, Scope
from app.errors import Invalid, TooManyRequests
from app.kit.clock import utc_now
from app.kit.ids import new_id, new_secret
from app.kit.pagination import Page, PageRequest, encode_cursor

SESSION_DAYS = 30
_TOUCH = timedelta(minutes=5)  # a session's sliding end is written at most this often
_WINDOW = timedelta(minutes=5)  # failed sign-ins count for so long
_FAILURES_PER_EMAIL = 5
_FAILURES_PER_ADDRESS = 20


def secret_hash(value: str) -> str:
    """Return how a secret of 256 bits of chance is stored; it needs no salt."""
    return hashlib.sha256(value.encode()).hexdigest()


def login(session: Session, *, email: str, password: str, address: str) -> User | None:
    """Return the user with this e-mail and password, or None, counted against both.

    Raises ``TooManyRequests`` with the wait. Takes as long for an unknown e-mail.
    """
    email = email.strip().lower()
    now = utc_now()
    keys = (f"email:{email[:200]}", f"address:{address}")
    _require_patience(session, key=keys[0], allowed=_FAILURES_PER_EMAIL, now=now)
    _require_patience(session, key=keys[1], allowed=_FAILURES_PER_ADDRESS, now=now)
    user = repository.user_by_email(session, email)
    usable = user if user is not None and user.disabled_at is None else None
    if not passwords.matches(password, usable.password_hash if usable else None) or usable is None:
        session.add_all([LoginAttempt(key=key, at=now) for key in keys])
        session.flush()
        return None
    repository.forget_attempts(session, key=keys[0])
    repository.forget_old(session, sessions_before=now, attempts_before=now - _WINDOW)
    if passwords.is_outdated(usable.password_hash or ""):
        usable.password_hash = passwords.hashed(password)
    return usable


def _require_patience(session: Session, *, key: str, allowed: int, now: datetime) -> None:
    failed = repository.attempts(session, key=key, since=now - _WINDOW)
    if len(failed) < allowed:
        return
    seconds = max(1, math.ceil((failed[-allowed] + _WINDOW - now).total_seconds()))
    wait = f"{seconds} s" if seconds < 120 else f"{math.ceil(seconds / 60)} min"  # noqa: PLR2004
    raise TooManyRequests(
        f"Too many failed sign-ins. Wait {wait}, then try again.", retry_after=seconds
    )


def start_session(session: Session, *, user: User, user_agent: str, address: str) -> str:
    """Begin a browser's session and return the value of its cookie."""
    value = new_secret()
    session.add(
        UserSession(
            id=new_id("ses"),
            token_hash=secret_hash(value),
            user_id=user.id,
            csrf_token=new_secret(),
            expires_at=utc_now() + timedelta(days=SESSION_DAYS),
            user_agent=user_agent[:200],
            address=address,
        )
    )
    session.flush()
    return value


def logout(session: Session, *, actor: Actor) -> None:
    """End the session of this browser."""
    if actor.session_id is not None:
        repository.delete_session(session, actor.session_id)


def sessions(session: Session, *, actor: Actor) -> list[UserSession]:
    """Return the browsers in which the actor is signed in, last used first."""
    return list(repository.sessions(session, user_id=actor.id, now=utc_now()))


def end_other_sessions(session: Session, *, actor: Actor) -> None:
    """Sign the actor out everywhere but here."""
    repository.delete_sessions(session, user_id=actor.id, but=actor.session_id)
    audit(session, actor=actor, action="sessions.end", subject_type="user", subject_id=actor.id)


def actor_from_session_cookie(session: Session, value: str | None) -> Actor | None:
    """Return who holds this cookie, or None; the session's end slides on."""
    if not value:
        return None
    now = utc_now()
    found = repository.session_with_user(session, secret_hash(value), now)
    if found is None:
        return None
    row, user = found
    if now - row.last_seen_at > _TOUCH:
        row.last_seen_at, row.expires_at = now, now + timedelta(days=SESSION_DAYS)
    return actor_of(user, csrf_token=row.csrf_token, session_id=row.id)


def actor_from_token(session: Session, value: str | None) -> Actor | None:
    """Return who made this API token, narrowed to its scope, or None."""
    if not value:
        return None
    now = utc_now()
    found = repository.token_with_user(session, secret_hash(value))
    if found is None or (found[0].expires_at is not None and found[0].expires_at <= now):
        return None
    token, user = found
    if token.last_used_at is None or now - token.last_used_at > _TOUCH:
        token.last_used_at = now
    return _token_actor(user, token)


def _token_actor(user: User, token: ApiToken) -> Actor:
    role = Role(user.role)
    scope = Scope.READ if role is Role.VIEWER else Scope(token.scope)
    return Actor(user.id, user.email, user.name, role, user.hue, via="token", scope=scope)


def actor_of(user: User, *, csrf_token: str | None = None, session_id: str | None = None) -> Actor:
    """Return ``user`` as an actor with all that the role allows."""
    return Actor(
        user.id,
        user.email,
        user.name,
        Role(user.role),
        user.hue,
        via="session",
        scope=Scope.WRITE,
        csrf_token=csrf_token,
        session_id=session_id,
    )


def change_password(session: Session, *, actor: Actor, current: str, new: str) -> None:
    """Set a new password and end the user's other sessions."""
    user = repository.user(session, actor.id)
    if user is None or not passwords.matches(current, user.password_hash):
        raise Invalid.field("current", "this is not your present password")
    passwords.check_strength(new, email=user.email, field="new")
    user.password_hash = passwords.hashed(new)
    repository.delete_sessions(session, user_id=user.id, but=actor.session_id)
    audit(session, actor=actor, action="password.change", subject_type="user", subject_id=user.id)


def audit(
    session: Session,
    *,
    actor: Actor | None,
    action: str,
    subject_type: str,
    subject_id: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write down who did what to which thing; ``None`` is the machine itself."""
    session.add(
        AuditRow(
            user_id=actor.id if actor else None,
            action=action,
            subject_type=subject_type,
            subject_id=subject_id,
            detail=detail or {},
        )
    )


def list_audit(session: Session, *, page: PageRequest) -> Page[AuditRow]:
    """Return the audit trail, newest first."""
    position = page.position(int)
    before = position[0] if position else None
    rows = list(repository.audit_rows(session, limit=page.limit + 1, before=before))
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    following = encode_cursor([rows[-1].id]) if more else None
    return Page(rows, following, repository.count_audit(session))
