"""The queries of users, sessions, tokens, links, attempts and the audit. Knows no rule."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from app.auth.models import (
    ApiToken,
    AuditRow,
    LoginAttempt,
    OneTimeLink,
    User,
    UserSession,
)

_LOCK_ADMINS = 0x7B0A_D311


def lock_admins(session: Session) -> None:
    """Let one transaction at a time change who is an admin."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_ADMINS})


def user(session: Session, user_id: str) -> User | None:
    """Return a user, disabled or not."""
    return session.get(User, user_id)


def user_by_email(session: Session, email: str) -> User | None:
    """Return the user with this e-mail (in lower case)."""
    return session.scalar(select(User).where(User.email == email))


def users(session: Session, *, limit: int, after: tuple[str, str] | None) -> Sequence[User]:
    """Return users by name, from ``after`` (name, id) on."""
    query = select(User).order_by(User.name, User.id).limit(limit)
    if after is not None:
        query = query.where(
            (User.name > after[0]) | ((User.name == after[0]) & (User.id > after[1]))
        )
    return session.scalars(query).all()


def users_by_id(session: Session, ids: set[str]) -> dict[str, User]:
    """Return the users with these ids, by id."""
    return {row.id: row for row in session.scalars(select(User).where(User.id.in_(ids)))}


def count_users(session: Session) -> int:
    """Return how many users there are, disabled ones too."""
    return session.scalar(select(func.count()).select_from(User)) or 0


def count_admins(session: Session) -> int:
    """Return how many admins can sign in."""
    query = select(func.count()).select_from(User)
    return session.scalar(query.where(User.role == "admin", User.disabled_at.is_(None))) or 0


def session_with_user(
    session: Session, token_hash: str, now: datetime
) -> tuple[UserSession, User] | None:
    """Return a session that is not over, with its user who is not disabled."""
    query = select(UserSession, User).join(User, User.id == UserSession.user_id)
    query = query.where(UserSession.token_hash == token_hash, UserSession.expires_at > now)
    row = session.execute(query.where(User.disabled_at.is_(None))).first()
    return (row[0], row[1]) if row else None


def delete_sessions(session: Session, *, user_id: str, but: str | None = None) -> None:
    """End all sessions of a user, ``but`` one."""
    query = delete(UserSession).where(UserSession.user_id == user_id)
    session.execute(query if but is None else query.where(UserSession.id != but))


def sessions(session: Session, *, user_id: str, now: datetime) -> Sequence[UserSession]:
    """Return the sessions of a user that are not over, last used first."""
    query = select(UserSession).where(UserSession.user_id == user_id, UserSession.expires_at > now)
    return session.scalars(query.order_by(UserSession.last_seen_at.desc())).all()


def delete_session(session: Session, session_id: str) -> None:
    """End one session."""
    session.execute(delete(UserSession).where(UserSession.id == session_id))


def forget_old(session: Session, *, sessions_before: datetime, attempts_before: datetime) -> None:
    """Delete sessions and attempts that count no longer."""
    session.execute(delete(UserSession).where(UserSession.expires_at < sessions_before))
    session.execute(delete(LoginAttempt).where(LoginAttempt.at < attempts_before))


def token_with_user(session: Session, token_hash: str) -> tuple[ApiToken, User] | None:
    """Return a token that is not revoked, with its user who is not disabled."""
    query = select(ApiToken, User).join(User, User.id == ApiToken.user_id)
    query = query.where(ApiToken.token_hash == token_hash, ApiToken.revoked_at.is_(None))
    row = session.execute(query.where(User.disabled_at.is_(None))).first()
    return (row[0], row[1]) if row else None


def tokens(
    session: Session, *, user_id: str | None, limit: int, before: str | None
) -> Sequence[ApiToken]:
    """Return tokens not revoked, newest first; of one user, or of all."""
    query = select(ApiToken).where(ApiToken.revoked_at.is_(None))
    if user_id is not None:
        query = query.where(ApiToken.user_id == user_id)
    if before is not None:
        query = query.where(ApiToken.id < before)
    return session.scalars(query.order_by(ApiToken.id.desc()).limit(limit)).all()


def count_tokens(session: Session, *, user_id: str | None) -> int:
    """Return how many tokens are not revoked."""
    query = select(func.count()).select_from(ApiToken).where(ApiToken.revoked_at.is_(None))
    return (
        session.scalar(query if user_id is None else query.where(ApiToken.user_id == user_id)) or 0
    )


def revoke_tokens(session: Session, *, user_id: str, at: datetime) -> None:
    """Revoke all tokens of a user."""
    query = update(ApiToken).where(ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None))
    session.execute(query.values(revoked_at=at))


def link(session: Session, token_hash: str) -> OneTimeLink | None:
    """Return a link by its secret's hash, locked against a second use at the same time."""
    query = select(OneTimeLink).where(OneTimeLink.token_hash == token_hash)
    return session.scalar(query.with_for_update())


def open_links(session: Session, *, purpose: str, now: datetime) -> Sequence[OneTimeLink]:
    """Return links that still work, newest first."""
    query = select(OneTimeLink).where(OneTimeLink.purpose == purpose)
    query = query.where(OneTimeLink.used_at.is_(None), OneTimeLink.expires_at > now)
    return session.scalars(query.order_by(OneTimeLink.created_at.desc())).all()


def void_links(session: Session, *, purpose: str, email: str | None, at: datetime) -> None:
    """Make links of a purpose (and e-mail) worthless."""
    query = update(OneTimeLink).where(OneTimeLink.purpose == purpose, OneTimeLink.used_at.is_(None))
    if email is not None:
        query = query.where(OneTimeLink.email == email)
    session.execute(query.values(used_at=at))


def attempts(session: Session, *, key: str, since: datetime) -> Sequence[datetime]:
    """Return when sign-ins under ``key`` failed, oldest first."""
    query = select(LoginAttempt.at).where(LoginAttempt.key == key, LoginAttempt.at > since)
    return session.scalars(query.order_by(LoginAttempt.at)).all()


def forget_attempts(session: Session, *, key: str) -> None:
    """Delete the failures counted under ``key``."""
    session.execute(delete(LoginAttempt).where(LoginAttempt.key == key))


def audit_rows(session: Session, *, limit: int, before: int | None) -> Sequence[AuditRow]:
    """Return the audit trail, newest first."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    return session.scalars(query if before is None else query.where(AuditRow.id < before)).all()


def count_audit(session: Session) -> int:
    """Return how long the audit trail is."""
    return session.scalar(select(func.count()).select_from(AuditRow)) or 0
