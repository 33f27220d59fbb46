"""The workers' doors to a job: claim it, stay its holder, record what happens, let it go.

An attempt holds its job while the lease lasts. Every door checks that the attempt is still the
holder and raises ``Fenced`` if it is not: such a worker kills its trainer and writes nothing.
Knows nothing of processes and files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.devices.models import Device
from app.jobs import policy, repository, service
from app.jobs.events import EventType, JobEvent
from app.jobs.failures import failure_of
from app.jobs.models import Job
from app.jobs.state import FailureKind, JobKind, JobStatus, StopMode
from app.kit.clock import utc_now
from app.queue import Lane

MAX_LOSSES = 3  # a job whose workers or trainers vanish so often is not started again
_CANDIDATES = 100


class Fenced(Exception):
    """The attempt no longer holds the job: it was given to another, or it ended."""


@dataclass(frozen=True)
class Claim:
    """A job that this worker holds, and what it was given to do it."""

    job_id: str
    kind: JobKind
    subject_id: str
    attempt: int
    recorded_seq: int
    fresh: bool
    device_kind: str | None = None
    device_indices: tuple[int, ...] = ()  # on this box, where it has several of the kind


def claim(
    session: Session, *, worker: str, host: str, lane: Lane, lease_seconds: float
) -> Claim | None:
    """Take the best queued job that can start on ``host``, with the devices it needs, or None."""
    jobs = [service.as_queued(job) for job in repository.queued(session, lane, _CANDIDATES)]
    if not jobs:
        return None
    for placement in policy.placements(jobs, service.offers(session, host=host)):
        taken = _take(session, placement, worker=worker, lease_seconds=lease_seconds)
        if taken is not None:
            return taken
    return None


def _take(
    session: Session, placement: policy.Placement, *, worker: str, lease_seconds: float
) -> Claim | None:
    """Lock job and devices without waiting for others who look at them; lease them all."""
    job = repository.lock_queued(session, placement.job.id)
    if job is None:
        return None
    devices = repository.lock_free_devices(session, [offer.id for offer in placement.devices])
    if len(devices) < len(placement.devices):
        return None
    job.attempt += 1
    job.worker = worker
    service.transition(session, job, JobStatus.STARTING)
    for device in devices:
        device.job_id, device.attempt = job.id, job.attempt
    session.flush()
    repository.extend_lease(session, job.id, job.attempt, lease_seconds)
    return _claim_of(job, devices)


def _claim_of(job: Job, devices: Sequence[Device]) -> Claim:
    return Claim(
        job.id,
        JobKind(job.kind),
        job.subject_id,
        job.attempt,
        job.recorded_seq,
        job.fresh,
        devices[0].kind if devices else None,
        tuple(device.index for device in devices),
    )


def heartbeat(
    session: Session, *, job_id: str, attempt: int, lease_seconds: float
) -> StopMode | None:
    """Extend the lease; return how a user wants the job to end, if one does."""
    job = repository.extend_lease(session, job_id, attempt, lease_seconds)
    if job is None:
        raise Fenced(job_id)
    return StopMode(job.stop_mode) if job.stop_mode else None


def begin(session: Session, *, job_id: str, attempt: int, last_seq: int) -> Job:
    """Move a claimed job to running; ``last_seq`` is the last line of its file on this box.

    A file with fewer lines than were recorded is a new one: this box never saw the old.
    """
    job = _held(session, job_id, attempt)
    job.recorded_seq = min(job.recorded_seq, last_seq)
    if job.status == JobStatus.STARTING:
        service.transition(session, job, JobStatus.RUNNING)
    return job


def started_over(session: Session, *, job_id: str, attempt: int) -> None:
    """Note that what earlier attempts left is gone: later attempts resume from this one's work."""
    _held(session, job_id, attempt).fresh = False


def record(
    session: Session,
    *,
    job_id: str,
    attempt: int,
    events: Sequence[JobEvent],
    seconds_per_step: float | None = None,
) -> list[JobEvent]:
    """Store lines of the trainer's file, each once; return those that were new, as stored."""
    job = _held(session, job_id, attempt)
    new = [event for event in events if event.seq > job.recorded_seq]
    if not new:
        return []
    job.recorded_seq = new[-1].seq
    for event in new:
        _follow(job, event)
    job.seconds_left = None
    if job.total_steps and seconds_per_step is not None:
        job.seconds_left = max(0, job.total_steps - job.step) * seconds_per_step
    return service.store_events(session, job, new)


def _follow(job: Job, event: JobEvent) -> None:
    """Keep the job's phase, step, progress and time left up with its events."""
    if event.type is EventType.PHASE:
        job.phase = str(event.values.get("phase", job.phase))
        total = event.values.get("total_steps")
        job.total_steps = int(total) if total else job.total_steps
        if event.values.get("phase") == "resumed" and event.step is not None:
            job.step = event.step
    if event.type is EventType.METRICS and event.step is not None:
        job.step = max(job.step, event.step)
    if job.total_steps:
        job.progress = min(1.0, job.step / job.total_steps)


def finish(
    session: Session,
    *,
    job_id: str,
    attempt: int,
    to: JobStatus,
    reason: str | None = None,
    failure: dict[str, Any] | None = None,
) -> Job:
    """Let the job go to the state ``to``; its devices are free again."""
    job = _held(session, job_id, attempt)
    if to is JobStatus.SUCCEEDED:
        job.progress = 1.0 if job.stop_mode is None else job.progress
    return service.transition(session, job, to, reason=reason, failure=failure)


def lose(session: Session, job: Job, *, reason: str, evidence: str) -> Job:
    """Queue a locked job again whose worker or trainer vanished; fail it after so many times."""
    job.lost_count += 1
    if job.lost_count < MAX_LOSSES:
        return service.transition(session, job, JobStatus.QUEUED, reason=reason)
    failure = failure_of(
        FailureKind.WORKER_LOST,
        evidence=f"{reason} ({job.lost_count} times). {evidence}".strip(),
    )
    return service.transition(session, job, JobStatus.FAILED, reason=reason, failure=failure)


def lose_held(
    session: Session, *, job_id: str, attempt: int, reason: str, evidence: str = ""
) -> Job:
    """As ``lose``, by the worker that still holds the job."""
    return lose(session, _held(session, job_id, attempt), reason=reason, evidence=evidence)


def _held(session: Session, job_id: str, attempt: int) -> Job:
    job = repository.lock_held(session, job_id, attempt)
    if job is None:
        raise Fenced(job_id)
    return job


def tell_progress(
    session: Session, *, job_id: str, attempt: int, phase: str, share: float, detail: str
) -> None:
    """Note how far work without a trainer is, for pages and sockets."""
    job = _held(session, job_id, attempt)
    job.phase, job.progress = phase, min(1.0, max(0.0, share))
    values = {"phase": phase, "detail": detail, "progress": job.progress}
    event = JobEvent(seq=0, type=EventType.PHASE, at=utc_now(), values=values)
    service.store_events(session, job, [event])


def alert(session: Session, *, job_id: str, attempt: int, code: str, text: str) -> None:
    """Tell what the worker saw of a trainer that says nothing itself."""
    job = _held(session, job_id, attempt)
    values = {"code": code, "text": text}
    event = JobEvent(seq=0, type=EventType.ALERT, at=utc_now(), step=job.step, values=values)
    service.store_events(session, job, [event])
