"""API tokens for scripts: made (and shown) once, listed, revoked. Knows no HTTP.

A token is ``tb_`` and 256 bits of chance, stored as a hash; its role is always its user's of now.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from app.auth import repository
from app.auth.models import ApiToken, User
from app.auth.roles import DEFAULT_DAYS, MAX_DAYS, Actor, Role, Scope, require_write
from app.auth.service import actor_of, audit, secret_hash
from app.errors import Forbidden, Invalid, NotFound
from app.kit.clock import utc_now
from app.kit.ids import new_id, new_secret
from app.kit.pagination import Page, PageRequest, encode_cursor

_MAX_NAME = 80
_SHOWN = 8  # characters of a token that a list may show


@dataclass(frozen=True)
class NewToken:
    """A token just made; ``value`` is known when it is made and never again."""

    row: ApiToken
    value: str | None


def create(
    session: Session, *, actor: Actor, name: str, scope: Scope, days: int | None = DEFAULT_DAYS
) -> NewToken:
    """Make a token for the actor; ``days`` None never ends."""
    if actor.via == "token":
        require_write(actor)
    name = " ".join(name.split())
    if not name or len(name) > _MAX_NAME:
        raise Invalid.field("name", f"give it a name of 1 to {_MAX_NAME} characters")
    if days is not None and not 1 <= days <= MAX_DAYS:
        raise Invalid.field("days", f"use 1 to {MAX_DAYS} days, or leave it out for no end")
    if scope is Scope.WRITE and not actor.may_write:
        raise Forbidden("A token cannot do more than you. Ask for the scope read.")
    value = f"tb_{new_secret()}"
    row = ApiToken(
        id=new_id("tok"),
        user_id=actor.id,
        name=name,
        token_hash=secret_hash(value),
        prefix=value[:_SHOWN],
        scope=scope.value,
        expires_at=None if days is None else utc_now() + timedelta(days=days),
    )
    session.add(row)
    session.flush()
    audit(
        session, actor=actor, action="token.create", subject_type="token", subject_id=row.id,
        detail={"name": name, "scope": scope.value},
    )  # fmt: skip
    return NewToken(row, value)


def create_for_email(session: Session, *, email: str, name: str) -> NewToken:
    """Make a token for a user named by e-mail, as wide as the role; for the command line."""
    user = repository.user_by_email(session, email.strip().lower())
    if user is None or user.disabled_at is not None:
        raise NotFound(f"There is no active user {email}. Make one with `tunebox admin create`.")
    return create(session, actor=actor_of(user), name=name, scope=_widest(user))


def _widest(user: User) -> Scope:
    return Scope.READ if user.role == Role.VIEWER else Scope.WRITE


def list_tokens(session: Session, *, actor: Actor, page: PageRequest) -> Page[ApiToken]:
    """Return tokens newest first: the actor's own; for an admin, everybody's."""
    position = page.position(str)
    user_id = None if actor.is_admin else actor.id
    before = position[0] if position else None
    rows = list(repository.tokens(session, user_id=user_id, limit=page.limit + 1, before=before))
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    following = encode_cursor([rows[-1].id]) if more else None
    return Page(rows, following, repository.count_tokens(session, user_id=user_id))


def get(session: Session, *, actor: Actor, token_id: str) -> NewToken:
    """Return a token without its value: one's own, or any for an admin."""
    row = session.get(ApiToken, token_id)
    if row is None or row.revoked_at is not None or not (actor.is_admin or row.user_id == actor.id):
        raise NotFound("There is no such token.")
    return NewToken(row, None)


def revoke(session: Session, *, actor: Actor, token_id: str) -> None:
    """End a token now: one's own, or any for an admin."""
    if actor.via == "token":
        require_write(actor)
    row = get(session, actor=actor, token_id=token_id).row
    row.revoked_at = utc_now()
    audit(
        session, actor=actor, action="token.revoke", subject_type="token", subject_id=row.id,
        detail={"name": row.name},
    )  # fmt: skip
