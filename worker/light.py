"""Does the jobs of the light lane, which need no device and no trainer. Knows whom to call."""

import time
from collections.abc import Callable
from functools import partial

from sqlalchemy.orm import Session

from app.jobs import leasing
from app.jobs.state import JobStatus
from app.kit.db import AWAY, transaction
from app.kit.storage import get_storage
from worker.verdict import Ending, Outcome, judge
from worker.work import Work, failed

_TELL_SECONDS = 0.5

Progress = Callable[[float, str], None]
GiveUp = Callable[[Session, str], None]


class Interrupted(Exception):
    """The job is to end before it is done."""


def analyse_dataset(work: Work) -> Outcome:
    """Check an uploaded version; if we fail, the version says so."""
    from app.datasets import analysis  # only who checks needs the checkers

    version_id = work.claim.subject_id

    def do(progress: Progress) -> None:
        opened, storage = partial(transaction, work.url), get_storage(work.settings)
        analysis.analyse(opened, storage=storage, version_id=version_id, progress=progress)

    def give_up(session: Session, reason: str) -> None:
        analysis.give_up(session, version_id=version_id, reason=reason)

    return _done(work, do, give_up, phase="checking")


def split_dataset(work: Work) -> Outcome:
    """Part a version's rows; if we fail, the split says so."""
    from app.datasets import splits

    split_id = work.claim.subject_id

    def do(progress: Progress) -> None:
        opened, storage = partial(transaction, work.url), get_storage(work.settings)
        splits.make(opened, storage=storage, split_id=split_id, progress=progress)

    def give_up(session: Session, reason: str) -> None:
        splits.give_up(session, split_id=split_id, reason=reason)

    return _done(work, do, give_up, phase="splitting")


def fetch_model(work: Work) -> Outcome:
    """Download a base model; if we fail, the model says so."""
    from app.basemodels import fetching

    model_id = work.claim.subject_id

    def do(progress: Progress) -> None:
        opened = partial(transaction, work.url)
        fetching.fetch(opened, settings=work.settings, model_id=model_id, progress=progress)

    def give_up(session: Session, reason: str) -> None:
        fetching.give_up(session, work.settings, model_id=model_id, reason=reason)

    return _done(work, do, give_up, phase="downloading")


def report_tokens(work: Work) -> Outcome:
    """Count a version's tokens for a base model; if we fail, the report says so."""
    from app.tokens import reporting

    report_id = work.claim.subject_id

    def do(progress: Progress) -> None:
        opened = partial(transaction, work.url)
        reporting.make(opened, settings=work.settings, report_id=report_id, progress=progress)

    def give_up(session: Session, reason: str) -> None:
        reporting.give_up(session, report_id=report_id, reason=reason)

    return _done(work, do, give_up, phase="counting")


def _done(work: Work, do: Callable[[Progress], None], give_up: GiveUp, *, phase: str) -> Outcome:
    """Do it; a failure or a stop is also told to the thing that the job is about."""
    try:
        do(_begin(work, phase=phase))
    except (leasing.Fenced, *AWAY):
        raise
    except Interrupted:
        outcome = judge(Ending(None, stop_mode=work.watch.stop_mode, let_go=work.watch.let_go))
        reason = "Stopped before it was done. Retry it to go on."
    except Exception as error:  # noqa: BLE001  # it must be told, whatever it was
        outcome = failed(error)
        reason = str(outcome.failure["evidence"]) if outcome.failure else repr(error)
    else:
        return Outcome(JobStatus.SUCCEEDED)
    if outcome.to is not JobStatus.QUEUED:
        with transaction(work.url) as session:
            give_up(session, reason)
    return outcome


def _begin(work: Work, *, phase: str) -> Progress:
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
