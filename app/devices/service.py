"""Devices as workers announce them: which there are, what they read, who is free.

Knows nothing of jobs but the id that holds a lease; claiming is part of ``jobs.leasing``.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.devices.inventory import Found
from app.devices.models import Device
from app.kit.clock import utc_now

GONE_AFTER_SECONDS = 60.0  # a device that no worker has announced for so long is not shown


def announce(session: Session, *, host: str, found: Sequence[Found]) -> None:
    """Insert or refresh the devices of ``host`` with their readings; leases stay as they are."""
    for device in sorted(found, key=lambda one: one.index):
        facts = _facts(host, device)
        statement = insert(Device).values(facts)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[Device.id],
                set_={name: statement.excluded[name] for name in facts if name != "id"},
            )
        )


def _facts(host: str, device: Found) -> dict[str, Any]:
    suffix = "cpu" if device.kind == "cpu" else f"{device.kind}:{device.index}"
    return {
        "id": f"{host}:{suffix}",
        "host": host,
        "kind": device.kind,
        "index": device.index,
        "name": device.name,
        "memory_bytes": device.memory_bytes,
        "driver": device.driver,
        "compute_capability": device.compute_capability,
        "reading": device.reading,
        "last_seen_at": utc_now(),
    }


def present(session: Session, *, host: str | None = None) -> list[Device]:
    """Return the devices that were announced lately, by host and index."""
    since = utc_now() - timedelta(seconds=GONE_AFTER_SECONDS)
    statement = select(Device).where(Device.last_seen_at > since)
    if host is not None:
        statement = statement.where(Device.host == host)
    return list(session.scalars(statement.order_by(Device.host, Device.index)))


def is_free(device: Device, *, at: datetime | None = None) -> bool:
    """Tell whether nobody holds the device, or its lease is over."""
    if device.job_id is None or device.lease_until is None:
        return True
    return device.lease_until < (at or utc_now())


def most_at_once(session: Session, kind: str) -> int:
    """Return how many devices of a kind the box has that has most of them."""
    boxes = Counter(device.host for device in present(session) if device.kind == kind)
    return max(boxes.values(), default=0)


def best_kind(session: Session) -> str:
    """Return ``cuda`` if a worker offers a GPU, else ``cpu``; what "auto" means now."""
    return "cuda" if any(device.kind == "cuda" for device in present(session)) else "cpu"
