"""Statements on jobs, their events and the leases of devices. Knows no rule and no queue."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.orm import Session

from app.devices.models import Device
from app.jobs.models import Job, JobEventRow
from app.jobs.state import LIVE, JobStatus


def lock(session: Session, job_id: str) -> Job | None:
    """Return the job as it is now, locked until the transaction ends."""
    statement = select(Job).where(Job.id == job_id).with_for_update()
    return session.scalar(statement.execution_options(populate_existing=True))


def lock_held(session: Session, job_id: str, attempt: int) -> Job | None:
    """Return the job, locked, if this attempt still holds it."""
    statement = select(Job).where(_held(job_id, attempt)).with_for_update()
    return session.scalar(statement.execution_options(populate_existing=True))


def lock_queued(session: Session, job_id: str) -> Job | None:
    """Return the job, locked, if it still waits and nobody else is looking at it."""
    statement = (
        select(Job)
        .where(Job.id == job_id, Job.status == JobStatus.QUEUED)
        .with_for_update(skip_locked=True)
    )
    return session.scalar(statement.execution_options(populate_existing=True))


def lock_free_devices(session: Session, ids: Sequence[str]) -> Sequence[Device]:
    """Return those of the devices, locked, that are still free and that nobody else looks at."""
    if not ids:
        return []
    statement = (
        select(Device)
        .where(Device.id.in_(ids), device_is_free())
        .order_by(Device.index)
        .with_for_update(skip_locked=True)
    )
    return session.scalars(statement.execution_options(populate_existing=True)).all()


def device_is_free() -> ColumnElement[bool]:
    """Return the condition that nobody holds a device, or no longer."""
    return Device.job_id.is_(None) | (Device.lease_until < func.clock_timestamp())


def in_seconds(seconds: float) -> ColumnElement[Any]:
    """Return the database's own time in ``seconds`` from now; workers' clocks do not matter."""
    return func.clock_timestamp() + timedelta(seconds=seconds)


def queued(session: Session, lane: str, limit: int) -> Sequence[Job]:
    """Return the first queued jobs of a lane, roughly in order."""
    statement = select(Job).where(Job.lane == lane, Job.status == JobStatus.QUEUED)
    return session.scalars(
        statement.order_by(Job.priority.desc(), Job.queued_at, Job.id).limit(limit)
    ).all()


def extend_lease(session: Session, job_id: str, attempt: int, seconds: float) -> Job | None:
    """Move the lease of job and devices to ``seconds`` from now; None if it is not ours."""
    until = in_seconds(seconds)
    job = session.scalar(
        update(Job).where(_held(job_id, attempt)).values(lease_until=until).returning(Job)
    )
    if job is not None:
        held = (Device.job_id == job_id, Device.attempt == attempt)
        session.execute(update(Device).where(*held).values(lease_until=until))
    return job


def release_devices(session: Session, job_id: str) -> None:
    """Free whatever devices the job holds."""
    session.execute(
        update(Device)
        .where(Device.job_id == job_id)
        .values(job_id=None, attempt=None, lease_until=None)
    )


def release_orphaned_devices(session: Session) -> None:
    """Free devices whose job is no longer live, but those that someone claims right now."""
    live = select(Job.id).where(Job.status.in_(LIVE))
    orphaned = select(Device.id).where(Device.job_id.is_not(None), Device.job_id.not_in(live))
    found = session.scalars(orphaned.with_for_update(skip_locked=True)).all()
    session.execute(
        update(Device)
        .where(Device.id.in_(found))
        .values(job_id=None, attempt=None, lease_until=None)
    )


def expired(session: Session) -> Sequence[Job]:
    """Return live jobs whose lease is over, locked."""
    statement = select(Job).where(Job.status.in_(LIVE), Job.lease_until < func.clock_timestamp())
    return session.scalars(
        statement.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    ).all()


def lanes_waiting(session: Session) -> Sequence[str]:
    """Return the lanes in which a job is queued."""
    statement = select(Job.lane).where(Job.status == JobStatus.QUEUED).distinct()
    return session.scalars(statement).all()


def insert_events(session: Session, rows: list[dict[str, Any]]) -> None:
    """Store events in one statement."""
    session.execute(insert(JobEventRow), rows)


def events_after(session: Session, job_id: str, after: int, limit: int) -> Sequence[JobEventRow]:
    """Return stored events with ``seq`` above ``after``, in order."""
    statement = select(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.seq > after)
    return session.scalars(statement.order_by(JobEventRow.seq).limit(limit)).all()


def last_event(session: Session, job_id: str, event_type: str) -> JobEventRow | None:
    """Return the newest event of a type."""
    statement = select(JobEventRow).where(
        JobEventRow.job_id == job_id, JobEventRow.type == event_type
    )
    return session.scalar(statement.order_by(JobEventRow.seq.desc()).limit(1))


def _held(job_id: str, attempt: int) -> ColumnElement[bool]:
    return (Job.id == job_id) & (Job.attempt == attempt) & Job.status.in_(LIVE)
