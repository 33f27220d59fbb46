"""Finds what others left behind: jobs whose lease is over, devices of ended jobs, unrung bells.

Runs in every server and worker; an advisory lock lets one at a time do the work. Knows nothing of
what the jobs do.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import bus
from app.jobs import leasing, repository, service
from app.jobs.events import EventType
from app.jobs.models import Job
from app.jobs.state import JobStatus, StopMode
from app.kit.db import after_commit, transaction
from app.queue import Lane, send

EVERY_SECONDS = 2.0
_LOCK = 0x74756E65  # any number that nobody else locks: "tune"

log = structlog.get_logger(__name__)


def reap(session: Session) -> int:
    """Do one round unless another process does; return how many jobs were let go."""
    if not session.scalar(select(func.pg_try_advisory_xact_lock(_LOCK))):
        return 0
    lost = repository.expired(session)
    for job in lost:
        _let_go(session, job)
    repository.release_orphaned_devices(session)
    for lane in repository.lanes_waiting(session):
        after_commit(session, partial(_ring_if_silent, Lane(lane)))
    return len(lost)


def _let_go(session: Session, job: Job) -> None:
    """Give an expired job the state that follows: what was asked of it, else the queue again."""
    reason = f"The worker {job.worker} stopped answering"
    log.warning("lease_expired", job=job.id, attempt=job.attempt, status=job.status)
    if job.status == JobStatus.PAUSING:
        service.transition(session, job, JobStatus.PAUSED, reason=reason)
    elif job.status == JobStatus.STOPPING:
        kept = job.stop_mode == StopMode.SAVE and _has_checkpoint(session, job)
        ended = JobStatus.SUCCEEDED if kept else JobStatus.CANCELLED
        service.transition(session, job, ended, reason=reason)
    else:
        leasing.lose(session, job, reason=reason, evidence="No heartbeat came within the lease.")


def _has_checkpoint(session: Session, job: Job) -> bool:
    return repository.last_event(session, job.id, EventType.CHECKPOINT) is not None


def _ring_if_silent(lane: Lane) -> None:
    """Ring for queued jobs unless a message waits in the broker already."""
    if bus.client().llen(lane.value) == 0:
        send(lane)


@contextmanager
def reaping(url: str) -> Iterator[None]:
    """Reap every two seconds in a thread while the block lasts."""
    ended = threading.Event()
    thread = threading.Thread(target=_run, args=(url, ended), name="reaper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _run(url: str, ended: threading.Event) -> None:
    while not ended.wait(EVERY_SECONDS):
        try:
            with transaction(url) as session:
                reap(session)
        except Exception as error:  # noqa: BLE001  # Postgres may be away; the next round tells
            log.warning("reaper_failed", error=repr(error))
