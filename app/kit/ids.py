"""New identifiers: opaque, URL-safe, sortable by creation. Knows no feature."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def _base32(value: int, length: int) -> str:
    return "".join(_ALPHABET[value >> 5 * place & 31] for place in reversed(range(length)))


def new_id(prefix: str) -> str:
    """Return e.g. ``run_06b3k0z5x2vq8w1t``: 8 characters of time (ms), 8 of chance."""
    now = time.time_ns() // 1_000_000
    return f"{prefix}_{_base32(now, 9)}{_base32(secrets.randbits(40), 8)}"


def new_secret() -> str:
    """Return 256 bits of chance as text for a URL or a header."""
    return secrets.token_urlsafe(32)
