"""Does a ``train`` job: prepares its folder, runs the trainer, records what it tells, judges.

Knows the files of a job folder and the trainer's command line, and nothing of training itself.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.evaluations import service as evaluations
from app.jobs import leasing
from app.jobs.events import EventType, JobEvent
from app.kit.db import transaction
from app.kit.storage import job_folder, require_space
from app.metrics import service as metrics
from app.preflights import service as preflights
from app.runs import service as runs
from app.sweeps import service as sweeps
from worker import following, launch
from worker.recorder import Recorder
from worker.trainer.files import write_whole
from worker.verdict import Outcome, judge
from worker.work import Work

_SPACE = 512 * 2**20  # a checkpoint, its successor and the adapter of a small model


def train(work: Work) -> Outcome:
    """Run one attempt of a run and return what became of it. Raises ``Fenced``."""
    folder = job_folder(work.settings, work.claim.job_id)
    folder.mkdir(parents=True, exist_ok=True)
    lock = following.wait_for_lock(work, folder)
    if lock is None:
        return judge(following.ending(work, None))
    with lock:
        recorder = _prepare(work, folder)
        return judge(
            following.see_through(work, folder, command="train", lock=lock, recorder=recorder)
        )


def _prepare(work: Work, folder: Path) -> Recorder:
    """Write the trainer's input, store what an earlier attempt left unrecorded, begin."""
    claim = work.claim
    require_space(folder, _SPACE)
    recorder = following.begin(work, folder, Hook(claim.job_id, folder))
    with transaction(work.url) as session:
        spec = runs.trainer_job(
            session, work.settings, job_id=claim.job_id, device=following.device(claim)
        )
    if claim.fresh:
        _start_over(work, folder)
    spec = spec.model_copy(update={"fresh": claim.fresh})
    write_whole(folder / "spec.json", spec.model_dump_json(indent=1).encode())
    return recorder


def _start_over(work: Work, folder: Path) -> None:
    """Drop the results of earlier attempts; the trainer itself tells that their points are void."""
    for name in ("checkpoints", "adapter", "model"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("report.json", "items.jsonl"):
        launch.remove_stale(folder / name)
    with transaction(work.url) as session:
        leasing.started_over(session, job_id=work.claim.job_id, attempt=work.claim.attempt)


class Hook:
    """Keeps what other features make of a run's events, in the transaction that stores them."""

    def __init__(self, job_id: str, folder: Path) -> None:
        self._job_id, self._folder = job_id, folder

    def __call__(self, session: Session, events: Sequence[JobEvent]) -> None:
        """Keep what the events mean; part of the transaction that stores them."""
        metrics.store(session, job_id=self._job_id, events=events)
        sweeps.judge(session, job_id=self._job_id, events=events)
        if any(event.type is EventType.EVALUATION for event in events):
            evaluations.store(session, job_id=self._job_id, folder=self._folder)
        if any(event.values.get("phase") == "tried" for event in events):
            preflights.store_of_run(session, job_id=self._job_id, folder=self._folder)
