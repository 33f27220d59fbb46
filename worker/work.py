"""What a handler of a job kind is given, and how the job is let go when it is done.

Knows no kind of job.
"""

import time
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from app.errors import AppError, NoSpace
from app.jobs import leasing
from app.jobs.failures import failure_of
from app.jobs.state import FailureKind, JobStatus
from app.kit.db import AWAY, transaction
from app.settings import Settings
from worker.ending import worker_is_ending
from worker.verdict import Outcome
from worker.watch import Watch

log = structlog.get_logger(__name__)

_PAUSE = 0.5


@dataclass(frozen=True)
class Work:
    """A claimed job in the hands of its handler."""

    settings: Settings
    url: str
    claim: leasing.Claim
    watch: Watch


def failed(error: Exception) -> Outcome:
    """Return the failure that an exception of ours means; unknown ones are internal."""
    kind, evidence = FailureKind.INTERNAL, f"{type(error).__name__}: {error}"
    if isinstance(error, AppError):
        evidence = error.detail
        kind = FailureKind(error.code) if error.code in set(FailureKind) else kind
    if isinstance(error, NoSpace):
        kind = FailureKind.DISK_FULL
    return Outcome(JobStatus.FAILED, failure=failure_of(kind, evidence=evidence))


def conclude(work: Work, outcome: Outcome) -> None:
    """Let the job go; wait for Postgres if it is away. Raises ``Fenced``."""
    while True:
        try:
            with transaction(work.url) as session:
                _apply(session, work.claim, outcome)
        except AWAY as error:
            log.warning("conclusion_waits", job=work.claim.job_id, error=repr(error)[:200])
            if worker_is_ending():
                return  # the reaper will find the job
            time.sleep(_PAUSE)
        else:
            return


def _apply(session: Session, claim: leasing.Claim, outcome: Outcome) -> None:
    job_id, attempt = claim.job_id, claim.attempt
    if outcome.lost:
        reason = outcome.reason or "lost"
        leasing.lose_held(session, job_id=job_id, attempt=attempt, reason=reason)
        return
    leasing.finish(
        session,
        job_id=job_id,
        attempt=attempt,
        to=outcome.to,
        reason=outcome.reason,
        failure=outcome.failure,
    )
