"""The first words to a person: where Tunebox runs, and how the first admin gets in.

Knows the server only by its address.
"""

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.settings import Settings
from app.up.output import Printer

_PATIENCE = 120.0  # seconds for the server to answer before we say that something is wrong


@dataclass(frozen=True)
class Prepared:
    """``welcome`` is the first admin's path, None once there is an admin; ``note`` a remark."""

    welcome: str | None
    note: str | None


def announcement(settings: Settings, prepared: Prepared, printer: Printer) -> Callable[[], bool]:
    """Return what prints the address once the server answers; it tells when it is done."""
    started = time.monotonic()

    def announced() -> bool:
        if not _ready(settings):
            if time.monotonic() - started < _PATIENCE:
                return False
            printer.line("tunebox", "the server does not answer; its lines above say why")
            return True
        printer.block(welcome_lines(settings, prepared))
        return True

    return announced


def welcome_lines(settings: Settings, prepared: Prepared) -> list[str]:
    """Return what a person needs to go on."""
    address = settings.public_url or f"http://{_visible(settings.host)}:{settings.port}"
    lines = [f"Tunebox runs at {address}"]
    if prepared.welcome:
        lines += ["Make the first account (once, by this link):", f"  {address}{prepared.welcome}"]
    if prepared.note:
        lines.append(prepared.note)
    return [*lines, "Ctrl-C stops it and keeps all work."]


def _visible(host: str) -> str:
    """Return an address that a browser on this machine can open."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _ready(settings: Settings) -> bool:
    """Ask the server whether it is ready to serve."""
    host = _visible(settings.host).strip("[]")
    connection = http.client.HTTPConnection(host, settings.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
