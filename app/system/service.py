"""Is the box well: database, broker, disk; and counts for Prometheus. Knows no HTTP."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from app import bus
from app.kit.storage import RESERVE_BYTES
from app.settings import Settings
from app.system import repository

_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One part: whether it works, and in a few words how or why not."""

    ok: bool
    detail: str


def readiness(session: Session, *, settings: Settings) -> dict[str, Check]:
    """Check all that a request may need; a part that fails is said, not raised."""
    return {
        "database": _checked(lambda: _database(session)),
        "broker": _checked(_broker),
        "disk": _checked(lambda: _disk(settings)),
    }


def _checked(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  # whatever is wrong, the answer is "not ready"
        return Check(ok=False, detail=f"does not answer ({type(error).__name__})")


def _database(session: Session) -> Check:
    session.execute(text("SELECT 1"))
    return Check(ok=True, detail="answers")


def _broker() -> Check:
    bus.client().ping()
    return Check(ok=True, detail="answers")


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(settings.data_folder).free
    return Check(ok=free > RESERVE_BYTES, detail=f"{free / _GIB:,.1f} GiB free")


def prometheus(session: Session) -> str:
    """Return gauges in Prometheus's text format."""
    lines: list[str] = []
    _gauge(lines, "tunebox_jobs", "Jobs by status.", repository.jobs_by_status(session))
    _gauge(lines, "tunebox_queue_length", "Queued jobs by lane.", repository.queued(session))
    _gauge(lines, "tunebox_devices", "Devices by kind and use.", repository.devices(session))
    _gauge(lines, "tunebox_users", "Active people.", {(): repository.active_users(session)})
    return "\n".join(lines) + "\n"


def _gauge(
    lines: list[str], name: str, what: str, values: dict[tuple[tuple[str, str], ...], int]
) -> None:
    lines += [f"# HELP {name} {what}", f"# TYPE {name} gauge"]
    for labels, value in sorted(values.items()):
        inside = ",".join(f'{key}="{text}"' for key, text in labels)
        lines.append(f"{name}{{{inside}}} {value}" if inside else f"{name} {value}")
