"""Counts and the box card of the sidebar, in three small queries. Knows no single page."""

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.datasets.models import Dataset
from app.devices.models import Device
from app.jobs.models import Job
from app.jobs.state import LIVE, JobStatus
from app.kit.clock import utc_now
from app.runs.models import Run

_FRESH = timedelta(seconds=60)


@dataclass(frozen=True)
class BoxDevice:
    """One device in the sidebar: memory in use as a share of 1, None if it does not tell."""

    label: str
    name: str
    share: float | None
    is_busy: bool
    is_foreign: bool


@dataclass(frozen=True)
class Sidebar:
    """What the sidebar counts and shows; as a fragment, its card with the devices."""

    template: ClassVar[str] = "_sidebar_box.html"
    running: int
    waiting: int
    datasets: int
    runs: int
    host: str
    used_bytes: int
    total_bytes: int
    devices: tuple[BoxDevice, ...]


def sidebar(session: Session) -> Sidebar:
    """Count what runs and waits, and read the devices that were seen in the last minute."""
    statuses = select(Job.status, func.count()).group_by(Job.status)
    by_status = dict(session.execute(statuses).all())
    devices = list(
        session.scalars(
            select(Device).where(Device.last_seen_at > utc_now() - _FRESH).order_by(Device.id)
        )
    )
    datasets = select(func.count()).select_from(Dataset).where(Dataset.deleted_at.is_(None))
    return Sidebar(
        running=sum(by_status.get(status.value, 0) for status in LIVE),
        waiting=by_status.get(JobStatus.QUEUED.value, 0),
        datasets=session.scalar(datasets) or 0,
        runs=session.scalar(select(func.count()).select_from(Run)) or 0,
        host=devices[0].host if devices else "",
        used_bytes=sum(int(device.reading.get("memory_used") or 0) for device in devices),
        total_bytes=sum(device.memory_bytes for device in devices),
        devices=tuple(_box_device(device) for device in devices),
    )


def _box_device(device: Device) -> BoxDevice:
    used = device.reading.get("memory_used")
    return BoxDevice(
        label="CPU" if device.kind == "cpu" else str(device.index),
        name=device.name,
        share=used / device.memory_bytes if used is not None and device.memory_bytes else None,
        is_busy=device.job_id is not None,
        is_foreign=bool(device.reading.get("foreign")) and device.job_id is None,
    )
