"""Who may do what: roles, scopes, and the person or script behind a request. Pure.

Knows neither database nor HTTP. A role is the most that a person may do; a token's scope can only
narrow it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from app.errors import Forbidden

DEFAULT_DAYS, MAX_DAYS = 90, 3650  # how long a token lasts


class Role(StrEnum):
    """What a person may do: an admin all, a member all of the work, a viewer look only."""

    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


class Scope(StrEnum):
    """What a token may do; ``write`` includes ``read``."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Actor:
    """The person behind a request, and how the request came in.

    ``csrf_token`` is set for a browser's session and belongs into its forms.
    """

    id: str
    email: str
    name: str
    role: Role
    hue: int
    via: Literal["session", "token"]
    scope: Scope
    csrf_token: str | None = None
    session_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Tell whether the actor may do all."""
        return self.role is Role.ADMIN and self.scope is Scope.WRITE

    @property
    def may_write(self) -> bool:
        """Tell whether the actor may change anything at all."""
        return self.role is not Role.VIEWER and self.scope is Scope.WRITE

    def owns(self, owner_id: str) -> bool:
        """Tell whether the actor may change a thing of ``owner_id``: the owner or an admin."""
        return self.is_admin or (self.may_write and self.id == owner_id)


def require_write(actor: Actor) -> None:
    """Raise ``Forbidden`` unless the actor may change things."""
    if actor.role is Role.VIEWER:
        raise Forbidden("Viewers can look, not change. Ask an admin for the member role.")
    if actor.scope is not Scope.WRITE:
        raise Forbidden("This token can read only. Make one with the scope write.")


def require_admin(actor: Actor) -> None:
    """Raise ``Forbidden`` unless the actor is an admin."""
    if actor.role is not Role.ADMIN:
        raise Forbidden("Only an admin can do this. Ask one of the admins of this Tunebox.")
    require_write(actor)


def require_owner(actor: Actor, owner_id: str) -> None:
    """Raise ``Forbidden`` unless the actor owns the thing or is an admin."""
    require_write(actor)
    if not actor.owns(owner_id):
        raise Forbidden("Only its owner or an admin can change this.")
