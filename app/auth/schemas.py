"""Bodies of requests and answers about people, tokens and the audit. Knows no database."""

from typing import Any

from pydantic import Field

from app.auth.roles import DEFAULT_DAYS, MAX_DAYS, Role, Scope
from app.kit.schemas import Moment, Schema


class UserOut(Schema):
    """A person as all may see one."""

    id: str
    email: str
    name: str
    role: Role
    created_at: Moment
    disabled_at: Moment | None


class UserList(Schema):
    """A page of people."""

    items: list[UserOut]
    next: str | None
    total: int


class Me(Schema):
    """Who is asking, and what this session or token may do."""

    id: str
    email: str
    name: str
    role: Role
    scope: Scope


class InvitationIn(Schema):
    """Whom to invite. Without an e-mail whoever has the link chooses one."""

    email: str | None = Field(None, max_length=254)
    role: Role = Role.MEMBER


class InvitationOut(Schema):
    """An invitation; ``link`` is shown in the answer that made it, and never again."""

    id: str
    link: str | None
    email: str | None
    role: Role
    expires_at: Moment


class RoleIn(Schema):
    """The role that a person gets."""

    role: Role


class TokenIn(Schema):
    """What token to make; ``days`` null never ends."""

    name: str = Field(min_length=1, max_length=80)
    scope: Scope = Scope.READ
    days: int | None = Field(DEFAULT_DAYS, ge=1, le=MAX_DAYS)


class TokenOut(Schema):
    """A token as a list shows it."""

    id: str
    name: str
    prefix: str
    scope: Scope
    user_id: str
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None


class NewTokenOut(TokenOut):
    """A token just made; ``token`` is null when the same Idempotency-Key asks again."""

    token: str | None


class TokenList(Schema):
    """A page of tokens."""

    items: list[TokenOut]
    next: str | None
    total: int


class AuditOut(Schema):
    """Who did what to which thing; ``user_id`` null is the machine itself."""

    id: int
    at: Moment
    user_id: str | None
    action: str
    subject_type: str
    subject_id: str
    detail: dict[str, Any]


class AuditList(Schema):
    """A page of the audit trail, newest first."""

    items: list[AuditOut]
    next: str | None
    total: int
