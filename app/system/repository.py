"""Counts over all features, for the box's own health. Knows no rule."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.auth.models import User
from app.devices.models import Device
from app.jobs.models import Job
from app.jobs.state import JobStatus
from app.kit.clock import utc_now
from app.queue import Lane

Labels = tuple[tuple[str, str], ...]


def jobs_by_status(session: Session) -> dict[Labels, int]:
    """Return how many jobs stand in each status, zeros too."""
    rows = session.execute(select(Job.status, func.count()).group_by(Job.status)).all()
    counts = {status.value: 0 for status in JobStatus} | {row[0]: row[1] for row in rows}
    return {(("status", status),): count for status, count in counts.items()}


def queued(session: Session) -> dict[Labels, int]:
    """Return how many jobs wait in each lane, zeros too."""
    query = select(Job.lane, func.count()).where(Job.status == JobStatus.QUEUED).group_by(Job.lane)
    counts = {lane.value: 0 for lane in Lane} | {row[0]: row[1] for row in session.execute(query)}
    return {(("lane", lane),): count for lane, count in counts.items()}


def devices(session: Session) -> dict[Labels, int]:
    """Return how many devices are busy and free, by kind."""
    now, counts = utc_now(), dict[Labels, int]()
    for device in session.scalars(select(Device)):
        held = device.job_id and device.lease_until is not None and device.lease_until > now
        labels = (("kind", device.kind), ("state", "busy" if held else "free"))
        counts[labels] = counts.get(labels, 0) + 1
    return counts


def active_users(session: Session) -> int:
    """Return how many people can sign in."""
    query = select(func.count()).select_from(User).where(User.disabled_at.is_(None))
    return session.scalar(query) or 0
