"""Does a ``preflight`` job: tries a run on its device, and keeps what was measured.

Knows the files of a job folder and the trainer's command line, and nothing of how a try is made.
"""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.jobs import leasing
from app.jobs.events import JobEvent
from app.jobs.state import JobStatus
from app.kit.db import AWAY, transaction
from app.kit.storage import job_folder, require_space
from app.preflights import service as preflights
from app.runs.trying import Ask, Mode
from worker import following
from worker.recorder import Recorder
from worker.trainer.files import write_whole
from worker.verdict import Outcome, judge
from worker.work import Work, failed

_SPACE = 64 * 2**20  # a try saves no checkpoint
_STOPPED = "Stopped before it was done. Try it again."


def preflight(work: Work) -> Outcome:
    """Try a run; the preflight says what came of it. Raises ``Fenced``."""
    folder = job_folder(work.settings, work.claim.job_id)
    folder.mkdir(parents=True, exist_ok=True)
    lock = following.wait_for_lock(work, folder)
    if lock is None:
        return _told(work, judge(following.ending(work, None)))
    with lock:
        try:
            recorder = _prepare(work, folder)
        except (leasing.Fenced, *AWAY):
            raise
        except Exception as error:
            _told(work, failed(error))
            raise
        ending = following.see_through(
            work, folder, command="preflight", lock=lock, recorder=recorder
        )
    outcome = judge(ending)
    if outcome.to is JobStatus.SUCCEEDED:
        with transaction(work.url) as session:
            preflights.finish(session, preflight_id=work.claim.subject_id, folder=folder)
    return _told(work, outcome)


def _prepare(work: Work, folder: Path) -> Recorder:
    """Write what the trainer reads, begin."""
    claim = work.claim
    require_space(folder, _SPACE)
    recorder = following.begin(work, folder, _keep_nothing)
    with transaction(work.url) as session:
        asked = preflights.get(session, claim.subject_id)
        ask = Ask(mode=Mode(asked.mode))
        spec = preflights.trainer_job(
            session,
            work.settings,
            preflight_id=claim.subject_id,
            device=following.device(claim),
        )
    write_whole(folder / "spec.json", spec.model_dump_json(indent=1).encode())
    write_whole(folder / "ask.json", ask.model_dump_json().encode())
    return recorder


def _keep_nothing(_session: Session, _events: Sequence[JobEvent]) -> None:
    """Its events are the job's own; no curve is drawn of them."""


def _told(work: Work, outcome: Outcome) -> Outcome:
    """Say on the preflight why there is no result, if there is none and nobody tries again."""
    if outcome.to in {JobStatus.SUCCEEDED, JobStatus.QUEUED}:
        return outcome
    failure = outcome.failure or {}
    reason = ": ".join(str(failure[name]) for name in ("title", "evidence") if failure.get(name))
    with transaction(work.url) as session:
        preflights.give_up(session, preflight_id=work.claim.subject_id, reason=reason or _STOPPED)
    return outcome
