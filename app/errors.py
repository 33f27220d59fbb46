"""What can go wrong for a user, as a tree. Knows no HTTP framework, no page and no feature.

    AppError
    ├── Invalid            422  the input is wrong; ``errors`` names each field
    ├── Unauthenticated    401  nobody is signed in
    ├── Forbidden          403  signed in, but not allowed
    ├── NotFound           404  it does not exist, or you may not see it
    ├── Conflict           409  it does not fit the present state
    ├── TooLarge           413  more bytes than are taken
    ├── Unsupported        415  a kind of content that is not taken
    ├── TooManyRequests    429  wait, then try again
    ├── NoSpace            507  the disk is full
    └── Unavailable        503  a part of ours is down

A message says what is wrong and how to cure it, in one or two sentences.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One wrong field: its dotted path in the request body, and what to do."""

    field: str
    message: str


class AppError(Exception):
    """An expected failure with a status, a stable code and a sentence for the user."""

    status = 500
    code = "internal"
    title = "Something went wrong"

    def __init__(
        self, detail: str, *, code: str | None = None, errors: tuple[FieldError, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.errors = errors
        self.headers: Mapping[str, str] = {}  # that a protocol wants beside the status


class Invalid(AppError):
    """The input cannot be taken as it is."""

    status = 422
    code = "invalid"
    title = "The input is not valid"

    @classmethod
    def field(cls, field: str, message: str, *, code: str | None = None) -> "Invalid":
        """Return the error of one field; the message is the detail too."""
        return cls(f"{field}: {message}", code=code, errors=(FieldError(field, message),))


class Unauthenticated(AppError):
    """Nobody is signed in."""

    status = 401
    code = "unauthenticated"
    title = "Sign in first"


class Forbidden(AppError):
    """The signed-in user may not do this."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotFound(AppError):
    """There is no such thing, or not for this user."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(AppError):
    """The request does not fit the present state."""

    status = 409
    code = "conflict"
    title = "Not possible in this state"


class TooLarge(AppError):
    """More bytes than are taken."""

    status = 413
    code = "too_large"
    title = "Too large"


class Unsupported(AppError):
    """A kind of content that is not taken."""

    status = 415
    code = "unsupported"
    title = "Not supported"


class TooManyRequests(AppError):
    """Too many attempts in a short time; ``retry_after`` seconds are to be waited."""

    status = 429
    code = "too_many_requests"
    title = "Too many attempts"

    def __init__(self, detail: str, *, retry_after: int, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class NoSpace(AppError):
    """The disk is full."""

    status = 507
    code = "no_space"
    title = "The disk is full"


class Unavailable(AppError):
    """A part that we need is down."""

    status = 503
    code = "unavailable"
    title = "Not available now"
