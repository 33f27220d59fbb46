"""Does the jobs of the light lane, which need no device and no trainer. Knows whom to call."""

import time
from collections.abc import Callable

from app.jobs import leasing
from app.jobs.state import JobStatus
from app.kit.db import AWAY, transaction
from app.kit.storage import get_storage
from worker.verdict import Ending, Outcome, judge
from worker.work import Work, failed

_TELL_SECONDS = 0.5

Progress = Callable[[float, str], None]


class Interrupted(Exception):
    """The job is to end before it is done."""


def begin(work: Work, *, phase: str) -> Progress:
    """Move the job to running; return what notes progress, and raises when it is to end."""
    claim, told_at = work.claim, -1.0
    with transaction(work.url) as session:
        leasing.begin(session, job_id=claim.job_id, attempt=claim.attempt, last_seq=0)

    def progress(share: float, detail: str) -> None:
        nonlocal told_at
        if work.watch.fenced:
            raise leasing.Fenced(claim.job_id)
        if work.watch.must_stop:
            raise Interrupted
        if time.monotonic() - told_at < _TELL_SECONDS:
            return
        told_at = time.monotonic()
        with transaction(work.url) as session:
            leasing.tell_progress(
                session,
                job_id=claim.job_id,
                attempt=claim.attempt,
                phase=phase,
                share=share,
                detail=detail,
            )

    return progress


def interrupted(work: Work) -> Outcome:
    """Return what follows when a job was ended before it was done."""
    return judge(Ending(None, stop_mode=work.watch.stop_mode, let_go=work.watch.let_go))


def analyse_dataset(work: Work) -> Outcome:
    """Check an uploaded version; if we fail, the version says so."""
    from app.datasets import analysis  # only who checks needs the checkers

    version_id = work.claim.subject_id
    try:
        progress = begin(work, phase="checking")
        analysis.analyse(
            lambda: transaction(work.url),
            storage=get_storage(work.settings),
            version_id=version_id,
            progress=progress,
        )
    except (leasing.Fenced, *AWAY):
        raise
    except Interrupted:
        outcome = interrupted(work)
        reason = "The check was stopped. Retry it to see the problems."
    except Exception as error:  # noqa: BLE001  # the version must say so, whatever it was
        outcome = failed(error)
        reason = f"{type(error).__name__}: {error}"
    else:
        return Outcome(JobStatus.SUCCEEDED)
    if outcome.to is not JobStatus.QUEUED:
        with transaction(work.url) as session:
            analysis.give_up(session, version_id=version_id, reason=reason)
    return outcome
