"""Takes queued jobs and sees them through, one after the other, until nothing is left to do.

Knows what kinds of jobs there are and who does each; not how.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping

import structlog

from app.jobs import leasing
from app.jobs.state import JobKind, JobStatus
from app.kit.db import AWAY, transaction
from app.queue import Lane
from app.settings import Settings, get_settings
from worker import light, training, trying
from worker.ending import worker_is_ending
from worker.verdict import Outcome
from worker.watch import Watch
from worker.work import Work, conclude, failed

log = structlog.get_logger(__name__)

Handler = Callable[[Work], Outcome]

HANDLERS: Mapping[JobKind, Handler] = {
    JobKind.TRAIN: training.train,
    JobKind.PREFLIGHT: trying.preflight,
    JobKind.ANALYSE_DATASET: light.analyse_dataset,
    JobKind.SPLIT_DATASET: light.split_dataset,
    JobKind.FETCH_MODEL: light.fetch_model,
    JobKind.TOKEN_REPORT: light.report_tokens,
}


def host_name() -> str:
    """Return the name under which this box's devices and workers are known."""
    return socket.gethostname()


def serve(lane: Lane) -> None:
    """Do the jobs of a lane until none is left that can start here."""
    settings = get_settings()
    url = database_url(settings)
    while not worker_is_ending():
        claim = _claim(settings, url, lane)
        if claim is None:
            return
        run(settings, url, claim)


def database_url(settings: Settings) -> str:
    """Return the address of Postgres, which every worker needs."""
    if settings.database_url is None:
        raise SystemExit("No database is set. Start with `tunebox up`, or set DATABASE_URL.")
    return settings.database_url


def _claim(settings: Settings, url: str, lane: Lane) -> leasing.Claim | None:
    host = host_name()
    try:
        with transaction(url) as session:
            return leasing.claim(
                session,
                worker=f"{host}:{os.getpid()}",
                host=host,
                lane=lane,
                lease_seconds=settings.lease_seconds,
            )
    except AWAY as error:
        log.warning("claim_failed", lane=lane, error=repr(error)[:200])
        time.sleep(0.5)
        return None  # the reaper rings again


def run(settings: Settings, url: str, claim: leasing.Claim) -> None:
    """See a claimed job through to its next state."""
    structlog.contextvars.bind_contextvars(job=claim.job_id, attempt=claim.attempt)
    log.info("job_taken", kind=claim.kind, device=claim.device_kind, indices=claim.device_indices)
    try:
        with Watch(url, claim, settings.lease_seconds) as watch:
            work = Work(settings, url, claim, watch)
            outcome = _handled(work)
            conclude(work, outcome)
        log.info("job_left", status=outcome.to, reason=outcome.reason)
    except leasing.Fenced:
        log.warning("job_fenced")
    finally:
        structlog.contextvars.clear_contextvars()


def _handled(work: Work) -> Outcome:
    try:
        return HANDLERS[work.claim.kind](work)
    except leasing.Fenced:
        raise
    except AWAY as error:
        log.warning("job_interrupted", error=repr(error)[:200])
        return Outcome(JobStatus.QUEUED, "Postgres was away", lost=True)
    except Exception as error:  # whatever it is, the job must not hang
        log.exception("job_broke")
        return failed(error)
