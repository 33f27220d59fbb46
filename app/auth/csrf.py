"""Proof that a browser's request came from our own pages. Knows neither database nor routes.

Two proofs for a request with the session cookie: its ``Origin`` (or ``Sec-Fetch-Site``) is ours,
and it carries the session's token, as a header or as a form field. A multipart body is streamed
and not searched for the field: there ``Origin`` must be present.
"""

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from app.errors import Forbidden
from app.settings import Settings

HEADER = "x-csrf-token"
FIELD = "csrf_token"

_CURE = "Reload the page, then try again."


def check_origin(headers: Mapping[str, str], *, settings: Settings) -> None:
    """Raise ``Forbidden`` if a page of another site sent this request."""
    origin = headers.get("origin")
    if origin is None:
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
            raise Forbidden(f"The request came from another site. {_CURE}", code="wrong_origin")
        return
    if origin_host(origin) not in own_hosts(headers, settings=settings):
        raise Forbidden(
            f"The request came from {origin[:100]}, which is not this server. Behind a proxy, set "
            "TUNEBOX_PUBLIC_URL to the address that browsers use.",
            code="wrong_origin",
        )


def own_hosts(headers: Mapping[str, str], *, settings: Settings) -> set[str]:
    """Return the ``host:port`` texts under which browsers may reach us."""
    hosts = {headers.get("host", "").lower()}
    if settings.public_url is not None:
        hosts.add(origin_host(settings.public_url))
    return hosts - {""}


def origin_host(origin: str) -> str:
    """Return ``host:port`` of an origin in lower case, or nothing if it has none."""
    return urlsplit(origin).netloc.lower()


def check_token(headers: Mapping[str, str], *, given: str | None, expected: str | None) -> None:
    """Raise ``Forbidden`` unless the session's token came along."""
    is_multipart = headers.get("content-type", "").lower().startswith("multipart/form-data")
    if given is None and is_multipart and "origin" in headers:
        return
    if given is None or expected is None or not secrets.compare_digest(given, expected):
        raise Forbidden(f"The form's security token is missing or old. {_CURE}", code="csrf")
