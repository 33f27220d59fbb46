"""What may be done to a job, by users and by workers alike: submit, move, stop, retry, read.

``transition`` is the only door to a job's status. Knows no feature whose jobs these are, and
nothing of how work is done; workers claim and record through ``leasing``.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import bus
from app.devices import service as devices
from app.errors import Conflict, NotFound
from app.jobs import policy, repository
from app.jobs.events import EventType, JobEvent
from app.jobs.failures import failure_of
from app.jobs.models import Job
from app.jobs.state import (
    InvalidTransition,
    JobKind,
    JobStatus,
    StopMode,
    check_transition,
)
from app.kit.clock import utc_now
from app.kit.ids import new_id
from app.kit.pagination import Page, PageRequest, encode_cursor
from app.kit.schemas import finite
from app.queue import Lane, ring

JOBS_CHANNEL = "jobs"
_PAUSED = "Paused; it goes on from its last checkpoint when someone resumes it."
_QUEUE_LOOK = 1000  # how many queued jobs are looked at to say why one waits


def submit(  # noqa: PLR0913  # a job's whole description, each part named at the call
    session: Session,
    *,
    kind: JobKind,
    lane: Lane,
    title: str,
    subject_id: str,
    owner_id: str,
    priority: int = 0,
    device_kind: str | None = None,
    devices_needed: int = 0,
) -> Job:
    """Queue new work and ring the bell once this transaction is committed."""
    job = Job(
        id=new_id("job"),
        kind=kind,
        lane=lane,
        title=title,
        subject_id=subject_id,
        owner_id=owner_id,
        priority=priority,
        device_kind=device_kind,
        devices_needed=devices_needed,
        status=JobStatus.QUEUED,
        attempt=0,
        last_seq=0,
    )
    session.add(job)
    session.flush()
    _announce_state(session, job, reason=None)
    ring(session, lane)
    return job


def transition(
    session: Session,
    job: Job,
    to: JobStatus,
    *,
    reason: str | None = None,
    failure: dict[str, Any] | None = None,
) -> Job:
    """Move ``job`` to the state ``to``, write the event, publish after the commit.

    Raises ``InvalidTransition`` where ``state.TRANSITIONS`` has no such step.
    """
    locked = repository.lock(session, job.id)
    if locked is None:
        raise NotFound("This job is gone.")
    check_transition(JobStatus(locked.status), to)
    locked.status = to
    locked.failure = failure
    _stamp(session, locked, to)
    _announce_state(session, locked, reason=reason)
    if to is JobStatus.QUEUED:
        ring(session, Lane(locked.lane))
    return locked


def _stamp(session: Session, job: Job, status: JobStatus) -> None:
    """Set what follows from a state: times, lease, devices, the wish to stop."""
    now = utc_now()
    if status is JobStatus.STARTING:
        job.started_at = job.started_at or now
    if status is JobStatus.QUEUED:
        job.queued_at, job.finished_at = now, None
    if status.is_final:
        job.finished_at = now
    if status.is_live:
        return
    job.lease_until = job.stop_mode = job.seconds_left = None
    session.flush()
    repository.release_devices(session, job.id)


def _announce_state(session: Session, job: Job, *, reason: str | None) -> None:
    values: dict[str, Any] = {"status": job.status, "attempt": job.attempt}
    if reason:
        values["reason"] = reason
    if job.failure:
        values["failure"] = job.failure
    store_events(
        session,
        job,
        [JobEvent(seq=0, type=EventType.STATE, at=utc_now(), values=values)],
    )
    bus.publish(session, JOBS_CHANNEL, {"job": job.id, "status": job.status})


def store_events(session: Session, job: Job, events: Sequence[JobEvent]) -> list[JobEvent]:
    """Number ``events`` on from the job's last, store them, publish after the commit.

    ``job`` must be locked by this transaction (or new), so that numbers have no holes.
    """
    if not events:
        return []
    stored = [
        event.model_copy(update={"seq": job.last_seq + place, "values": _storable(event.values)})
        for place, event in enumerate(events, start=1)
    ]
    job.last_seq = stored[-1].seq
    session.flush()
    repository.insert_events(
        session,
        [{"job_id": job.id, "attempt": job.attempt, **event.model_dump()} for event in stored],
    )
    message = {"events": [event.model_dump(mode="json") for event in stored]}
    bus.publish(session, bus.job_channel(job.id), message)
    return stored


def _storable(value: Any) -> Any:  # any JSON value
    """Return ``value`` as Postgres takes it: finite numbers, no NUL, no lone surrogates."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {str(_storable(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return finite(value)


def append_events(session: Session, job_id: str, events: Iterable[JobEvent]) -> list[JobEvent]:
    """Store events that do not come from a trainer's file; their ``seq`` is given here."""
    return store_events(session, _locked(session, job_id), list(events))


def get(session: Session, job_id: str) -> Job:
    """Return a job or raise ``NotFound``."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound("There is no such job.")
    return job


def get_many(session: Session, job_ids: Iterable[str]) -> dict[str, Job]:
    """Return jobs by id; unknown ids are left out."""
    statement = select(Job).where(Job.id.in_(list(job_ids)))
    return {job.id: job for job in session.scalars(statement)}


def events_after(
    session: Session, *, job_id: str, after: int = 0, limit: int = 1000
) -> list[JobEvent]:
    """Return stored events with ``seq`` above ``after``, oldest first."""
    rows = repository.events_after(session, job_id, after, limit)
    return [
        JobEvent(
            seq=row.seq,
            type=EventType(row.type),
            at=row.at,
            step=row.step,
            values=row.values,
        )
        for row in rows
    ]


def list_jobs(
    session: Session,
    *,
    statuses: Iterable[JobStatus] = (),
    kinds: Iterable[JobKind] = (),
    owner_id: str | None = None,
    subject_id: str | None = None,
    page: PageRequest | None = None,
) -> Page[Job]:
    """Return jobs, newest first."""
    page = page or PageRequest()
    conditions = [
        *([Job.status.in_(list(statuses))] if statuses else []),
        *([Job.kind.in_(list(kinds))] if kinds else []),
        *([Job.owner_id == owner_id] if owner_id else []),
        *([Job.subject_id == subject_id] if subject_id else []),
    ]
    total = session.scalar(select(func.count()).select_from(Job).where(*conditions)) or 0
    statement = select(Job).where(*conditions).order_by(Job.number.desc()).limit(page.limit + 1)
    position = page.position(int)
    if position is not None:
        statement = statement.where(Job.number < position[0])
    rows = list(session.scalars(statement))
    following = encode_cursor([rows[page.limit - 1].number]) if len(rows) > page.limit else None
    return Page(rows[: page.limit], following, total)


def request_stop(session: Session, *, job_id: str, mode: StopMode) -> Job:
    """Ask that a job ends: keeping its work, dropping it, or to go on later.

    A job that nobody works on ends here and now; a live one is told so through Redis and, should
    that fail, by its next heartbeat.
    """
    job = _locked(session, job_id)
    status = JobStatus(job.status)
    if mode is StopMode.PAUSE and job.kind != JobKind.TRAIN:
        raise Conflict("Only runs can pause. Stop it instead, and start it again later.")
    if not status.is_live:
        return _stop_idle(session, job, mode)
    if mode is StopMode.PAUSE and status is JobStatus.STOPPING:
        raise Conflict("It is stopping already, and cannot pause any more.")
    wanted = JobStatus.PAUSING if mode is StopMode.PAUSE else JobStatus.STOPPING
    if status is not wanted:
        transition(session, job, wanted, reason=f"{mode} requested")
    if job.stop_mode != StopMode.CANCEL:
        job.stop_mode = mode
    session.flush()
    bus.publish(session, bus.control_channel(job.id), {"mode": job.stop_mode})
    return job


def _stop_idle(session: Session, job: Job, mode: StopMode) -> Job:
    if JobStatus(job.status).is_final:
        raise Conflict(f"It cannot stop: it is {job.status} already.")
    if mode is not StopMode.PAUSE:
        return transition(session, job, JobStatus.CANCELLED, reason="stopped before it ran on")
    if job.status == JobStatus.PAUSED:
        return job
    return transition(session, job, JobStatus.PAUSED, reason="paused before it started")


def resume(session: Session, job_id: str) -> Job:
    """Queue a paused job again; it goes on from its last checkpoint."""
    job = _locked(session, job_id)
    if job.status != JobStatus.PAUSED:
        raise Conflict(f"Only a paused job can resume; this one is {job.status}.")
    return transition(session, job, JobStatus.QUEUED, reason="resumed")


def retry(session: Session, *, job_id: str, fresh: bool) -> Job:
    """Queue a failed or cancelled job again, from its last checkpoint or ``fresh`` from nothing."""
    job = _locked(session, job_id)
    if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise Conflict(f"Only a failed or cancelled job can be retried; this one is {job.status}.")
    job.fresh, job.lost_count = fresh, 0
    if fresh:
        job.step, job.progress, job.phase, job.started_at = 0, 0.0, None, None
    return transition(session, job, JobStatus.QUEUED, reason="retried")


def waiting_reason(session: Session, job: Job) -> str | None:
    """Say in one sentence why a queued or paused job does not run; None for any other."""
    return waiting_reasons(session, [job]).get(job.id)


def waiting_reasons(session: Session, jobs: Sequence[Job]) -> dict[str, str]:
    """Say of each queued or paused job why it does not run; the queue is read once."""
    reasons = {job.id: _PAUSED for job in jobs if job.status == JobStatus.PAUSED}
    waiting = [job for job in jobs if job.status == JobStatus.QUEUED]
    if not waiting:
        return reasons
    offered = offers(session)
    for lane in {job.lane for job in waiting}:
        queue = [as_queued(other) for other in repository.queued(session, lane, _QUEUE_LOOK)]
        reasons |= {
            job.id: policy.waiting_reason(as_queued(job), queue, offered)
            for job in waiting
            if job.lane == lane
        }
    return reasons


def as_queued(job: Job) -> policy.QueuedJob:
    """Return what the policy may know of a job."""
    return policy.QueuedJob(
        job.id, job.priority, job.queued_at, job.device_kind, job.devices_needed
    )


def offers(session: Session, *, host: str | None = None) -> list[policy.Offer]:
    """Return the devices that workers offer now, with the title of what each does."""
    present = devices.present(session, host=host)
    titles = get_many(session, [device.job_id for device in present if device.job_id])
    return [
        policy.Offer(
            device.id,
            device.host,
            device.kind,
            device.index,
            titles[device.job_id].title if device.job_id and not devices.is_free(device) else None,
        )
        for device in present
    ]


def predicted_finish(job: Job) -> datetime | None:
    """Return when a running job ends by its recent pace, or None while unknown."""
    if job.seconds_left is None or not JobStatus(job.status).is_live:
        return None
    return utc_now() + timedelta(seconds=job.seconds_left)


def predicted_start(session: Session, job: Job) -> datetime | None:
    """Return when a queued job starts, or None while unknown.

    Known only for the next in line when all fitting devices run jobs whose end is predicted.
    """
    if job.status != JobStatus.QUEUED or job.devices_needed != 1:
        return None
    queue = policy.order(as_queued(other) for other in repository.queued(session, job.lane, 2))
    if not queue or queue[0].id != job.id:
        return None
    present = devices.present(session)
    kind = policy.wanted_kind(as_queued(job), offers(session))
    holders = get_many(
        session,
        [device.job_id for device in present if device.kind == kind and device.job_id],
    )
    ends = [predicted_finish(holder) for holder in holders.values()]
    known = [end for end in ends if end is not None]
    return min(known) if known and len(known) == len(ends) else None


def _locked(session: Session, job_id: str) -> Job:
    job = repository.lock(session, job_id)
    if job is None:
        raise NotFound("There is no such job.")
    return job


__all__ = [
    "JOBS_CHANNEL",
    "InvalidTransition",
    "append_events",
    "as_queued",
    "events_after",
    "failure_of",
    "get",
    "get_many",
    "list_jobs",
    "offers",
    "predicted_finish",
    "predicted_start",
    "request_stop",
    "resume",
    "retry",
    "store_events",
    "submit",
    "transition",
    "waiting_reason",
    "waiting_reasons",
]
