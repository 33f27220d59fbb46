"""Sees a trainer's process through: starts it in a job's folder, records what it tells, ends it.

Knows the files of a job folder and how a trainer is asked to stop; not what it does.
"""

import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Literal

from app.jobs import leasing
from app.jobs.state import StopMode
from app.kit.db import transaction
from app.logging import scrub_text
from worker import launch
from worker.ending import worker_is_ending
from worker.recorder import FILE_NAME, Hook, Recorder, last_seq
from worker.trainer.files import write_whole
from worker.verdict import Ending
from worker.work import Work

STOP_NAME = "stop.json"
TICK = 0.02
_DEAF_SECONDS = 30.0  # a trainer that has told nothing yet may not have its signal handlers yet
_CANCEL_GRACE = 5.0  # nothing is to be saved
_TAIL_LINES = 20
_TAIL_BYTES = 16_384


def wait_for_lock(work: Work, folder: Path) -> IO[bytes] | None:
    """Wait until no process of an earlier attempt is alive; None if the job is to end instead."""
    while not work.watch.must_stop:
        lock = launch.try_lock(folder)
        if lock is not None:
            return lock
        time.sleep(TICK)
    _raise_if_fenced(work)
    return None


def begin(work: Work, folder: Path, hook: Hook) -> Recorder:
    """Store what an earlier attempt left unrecorded, move the job to running."""
    claim = work.claim
    launch.remove_stale(folder / STOP_NAME)
    recorder = Recorder(work.url, claim, folder, hook)
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
    return recorder


def device(claim: leasing.Claim) -> Literal["cpu", "cuda"]:
    """Return the kind of device that the job was given, as a trainer names it."""
    return "cuda" if claim.device_kind == "cuda" else "cpu"


def see_through(
    work: Work, folder: Path, *, command: str, lock: IO[bytes], recorder: Recorder
) -> Ending:
    """Run ``python -m worker.trainer COMMAND FOLDER`` to its end. Raises ``Fenced``."""
    kills = _memory_kills()
    trainer = _start(work, folder, command, lock)
    try:
        code = _follow(work, folder, trainer, recorder)
    except BaseException:
        trainer.kill()  # nobody records what it does any more
        raise
    finally:
        trainer.close()
        trainer.wait()
    _drain(work, recorder)
    return ending(
        work,
        code,
        told=recorder.failure.values if recorder.failure else None,
        killed_for_memory=_memory_kills() > kills,
        log_tail=_log_tail(folder),
    )


def ending(work: Work, code: int | None, **facts: object) -> Ending:
    """Return how an attempt ended, with what is wished of it."""
    return Ending(
        code,
        stop_mode=work.watch.stop_mode,
        let_go=work.watch.let_go,
        **facts,  # pyright: ignore[reportArgumentType]  # named at the one call that has them
    )


def _start(work: Work, folder: Path, command: str, lock: IO[bytes]) -> launch.Trainer:
    claim = work.claim
    return launch.start(
        [sys.executable, "-m", "worker.trainer", command, str(folder)],
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
        if asked is None:
            recorder.tell_stall()
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
        time.sleep(TICK)
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
        time.sleep(TICK)


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
