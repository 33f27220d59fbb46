"""Does a ``train`` job: prepares its folder, runs the trainer, records what it tells, judges.

Knows the files of a job folder and the trainer's command line, and nothing of training itself.
"""

import json
import math
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Literal

import structlog
from sqlalchemy.orm import Session

from app.evaluations import service as evaluations
from app.jobs import leasing
from app.jobs.events import EventType, JobEvent
from app.jobs.state import StopMode
from app.kit.db import transaction
from app.kit.storage import job_folder, require_space
from app.logging import scrub_text
from app.metrics import service as metrics
from app.runs import service as runs
from worker import launch
from worker.ending import worker_is_ending
from worker.recorder import FILE_NAME, Recorder, last_seq
from worker.trainer.files import write_whole
from worker.verdict import Ending, Outcome, judge
from worker.work import Work

log = structlog.get_logger(__name__)

STOP_NAME = "stop.json"
_SPACE = 512 * 2**20  # a checkpoint, its successor and the adapter of a small model
_TICK = 0.02
_DEAF_SECONDS = 30.0  # a trainer that has told nothing yet may not have its signal handlers yet
_CANCEL_GRACE = 5.0  # nothing is to be saved
_TAIL_LINES = 20
_TAIL_BYTES = 16_384


def train(work: Work) -> Outcome:
    """Run one attempt of a run and return what became of it. Raises ``Fenced``."""
    folder = job_folder(work.settings, work.claim.job_id)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _wait_for_lock(work, folder)
    if lock is None:
        return judge(_ending(work, None))
    with lock:
        recorder = _prepare(work, folder)
        kills = _memory_kills()
        trainer = _start(work, folder, lock)
        try:
            code = _follow(work, folder, trainer, recorder)
        except BaseException:
            trainer.kill()  # nobody records what it does any more
            raise
        finally:
            trainer.close()
            trainer.wait()
        _drain(work, recorder)
    ending = _ending(
        work,
        code,
        told=recorder.failure.values if recorder.failure else None,
        killed_for_memory=_memory_kills() > kills,
        log_tail=_log_tail(folder),
    )
    return judge(ending)


def _ending(work: Work, code: int | None, **facts: object) -> Ending:
    return Ending(
        code,
        stop_mode=work.watch.stop_mode,
        let_go=work.watch.let_go,
        **facts,  # pyright: ignore[reportArgumentType]  # named at the one call that has them
    )


def _wait_for_lock(work: Work, folder: Path) -> IO[bytes] | None:
    """Wait until no process of an earlier attempt is alive; None if the job is to end instead."""
    while not work.watch.must_stop:
        lock = launch.try_lock(folder)
        if lock is not None:
            return lock
        time.sleep(_TICK)
    _raise_if_fenced(work)
    return None


def _prepare(work: Work, folder: Path) -> Recorder:
    """Write the trainer's input, store what an earlier attempt left unrecorded, begin."""
    claim = work.claim
    require_space(folder, _SPACE)
    launch.remove_stale(folder / STOP_NAME)
    recorder = Recorder(work.url, claim, folder, _Hook(claim.job_id, folder))
    with transaction(work.url) as session:
        job = leasing.begin(
            session,
            job_id=claim.job_id,
            attempt=claim.attempt,
            last_seq=last_seq(folder / FILE_NAME),
        )
        recorder.start_after(job.recorded_seq)
    recorder.drain()
    recorder.failure, recorder.heard = None, False
    with transaction(work.url) as session:
        spec = runs.trainer_job(session, work.settings, job_id=claim.job_id, device=_device(claim))
    if claim.fresh:
        _start_over(work, folder)
    spec = spec.model_copy(update={"fresh": claim.fresh})
    write_whole(folder / "spec.json", spec.model_dump_json(indent=1).encode())
    return recorder


def _device(claim: leasing.Claim) -> Literal["cpu", "cuda"]:
    return "cuda" if claim.device_kind == "cuda" else "cpu"


def _start_over(work: Work, folder: Path) -> None:
    """Drop the results of earlier attempts; the trainer itself tells that their points are void."""
    for name in ("checkpoints", "adapter"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("report.json", "items.jsonl"):
        launch.remove_stale(folder / name)
    with transaction(work.url) as session:
        leasing.started_over(session, job_id=work.claim.job_id, attempt=work.claim.attempt)


class _Hook:
    """Keeps what other features make of a run's events, in the transaction that stores them."""

    def __init__(self, job_id: str, folder: Path) -> None:
        self._job_id, self._folder = job_id, folder

    def __call__(self, session: Session, events: Sequence[JobEvent]) -> None:
        metrics.store(session, job_id=self._job_id, events=events)
        if any(event.type is EventType.EVALUATION for event in events):
            evaluations.store(session, job_id=self._job_id, folder=self._folder)


def _start(work: Work, folder: Path, lock: IO[bytes]) -> launch.Trainer:
    claim = work.claim
    return launch.start(
        [sys.executable, "-m", "worker.trainer", "train", str(folder)],
        folder=folder,
        lock=lock,
        grace=work.settings.stop_grace_seconds,
        extra=launch.device_environment(claim.device_kind, claim.device_indices),
    )


def _follow(work: Work, folder: Path, trainer: launch.Trainer, recorder: Recorder) -> int:
    """Record until the trainer ends; pass on what is wished of it. Raises ``Fenced``."""
    deaf_until = time.monotonic() + _DEAF_SECONDS
    kill_at, asked = math.inf, None
    while (code := trainer.poll()) is None:
        recorder.poll()
        _raise_if_fenced(work)
        wish, now = _wish(work), time.monotonic()
        hears = recorder.heard or now > deaf_until or wish == StopMode.CANCEL
        if wish not in (None, asked) and hears:
            write_whole(folder / STOP_NAME, json.dumps({"mode": wish}).encode())
            trainer.ask_to_stop()
            asked = wish
            kill_at = now + _CANCEL_GRACE if wish == StopMode.CANCEL else kill_at
        if now > kill_at:
            trainer.kill()
        time.sleep(_TICK)
    return code


def _wish(work: Work) -> str | None:
    """Return how the trainer is to leave now, or None while it is to stay."""
    if work.watch.stop_mode is not None:
        return work.watch.stop_mode.value
    return "shutdown" if work.watch.let_go else None


def _raise_if_fenced(work: Work) -> None:
    if work.watch.fenced:
        raise leasing.Fenced(work.claim.job_id)


def _drain(work: Work, recorder: Recorder) -> None:
    """Store the last lines; while Postgres is away they wait, for us or for the next attempt."""
    while not recorder.drain() and not worker_is_ending():
        _raise_if_fenced(work)
        time.sleep(_TICK)


def _memory_kills() -> int:
    """Return how many processes the kernel has killed for memory, as far as it tells."""
    counters = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))
    return sum(_counted(path) for path in counters)


def _counted(path: Path) -> int:
    try:
        lines: Iterable[str] = path.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _log_tail(folder: Path) -> str:
    """Return the last lines of the trainer's own log, without secrets."""
    try:
        data = (folder / launch.LOG_NAME).read_bytes()[-_TAIL_BYTES:]
    except OSError:
        return ""
    return scrub_text("\n".join(data.decode(errors="replace").splitlines()[-_TAIL_LINES:]))
