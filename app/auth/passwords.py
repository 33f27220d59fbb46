"""Hashing and judging passwords. Knows no user and no database.

Argon2id with the library's defaults (RFC 9106, low memory). An unknown user costs the same time
as a wrong password, so that the answer's time does not tell who exists.
"""

from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from app.errors import Invalid

MIN_LENGTH = 10
MAX_LENGTH = 200

_hasher = PasswordHasher()

# Passwords of ten letters or more that lead every list of guessed ones.
_COMMON_TEXT = """
    0123456789 0987654321 1111111111 1122334455 1234554321 1234567890 12345678910 123456789a
    1234567890a 1q2w3e4r5t 1q2w3e4r5t6y 1qaz2wsx3edc 9876543210 a123456789 aa123456789 abc1234567
    abcd123456 abcdefghij adminadmin administrator asdfghjkl1 basketball changeme123 changemenow
    football123 fuckyou123 iloveyou12 iloveyou123 letmein123 mypassword password00 password01
    password10 password11 password12 password123 password1234 password12345 passwordpassword
    princess123 q1w2e3r4t5 q1w2e3r4t5y6 qazwsxedc1 qwerty1234 qwerty12345 qwerty123456 qwertyuiop
    qwertyuiop123 superman123 sunshine123 tuneboxadmin tuneboxtunebox welcome123 welcome1234
    zaq12wsxcde3 zxcvbnm123
"""
_COMMON = frozenset(_COMMON_TEXT.split())


def check_strength(password: str, *, email: str = "", field: str = "password") -> None:
    """Raise ``Invalid`` at ``field`` if the password is too short, too long or easily guessed."""
    if len(password) < MIN_LENGTH:
        raise Invalid.field(field, f"use at least {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise Invalid.field(field, f"use at most {MAX_LENGTH} characters")
    plain = password.lower()
    if plain in _COMMON or len(set(plain)) < 4 or plain == email.lower():  # noqa: PLR2004
        raise Invalid.field(field, "this one is among the first to be guessed; use another")


def hashed(password: str) -> str:
    """Return the Argon2id hash with its salt and parameters."""
    return _hasher.hash(password)


@lru_cache
def _nobody() -> str:
    return _hasher.hash("no user has this password")


def matches(password: str, stored: str | None) -> bool:
    """Tell whether ``password`` is the hashed one; ``None`` takes as long and is never right."""
    try:
        _hasher.verify(stored or _nobody(), password[: MAX_LENGTH + 1])
    except (Argon2Error, InvalidHashError):
        return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Tell whether ``stored`` was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(stored)
