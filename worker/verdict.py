"""What becomes of a job once its trainer has ended. Pure.

Knows the trainer's exit code, what users and machine asked for, and what the trainer told last;
nothing of processes or databases.
"""

from dataclasses import dataclass
from typing import Any

from app.jobs.failures import failure_of
from app.jobs.state import (
    EXIT_CANCELLED,
    EXIT_CODES,
    EXIT_DONE,
    EXIT_STOPPED,
    FailureKind,
    JobStatus,
    StopMode,
)

_KINDS = {code: kind for kind, code in EXIT_CODES.items()}
_KILLED = 128  # an exit code above it is 128 + the signal's number


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. ``code`` is None where no trainer was started.

    ``let_go`` says why the worker itself had to give the job up, if it had to.
    """

    code: int | None
    stop_mode: StopMode | None = None
    let_go: str | None = None
    told: dict[str, Any] | None = None
    killed_for_memory: bool = False
    log_tail: str = ""


@dataclass(frozen=True)
class Outcome:
    """The state that follows. ``lost``: the queue again, but only so many times."""

    to: JobStatus
    reason: str | None = None
    failure: dict[str, Any] | None = None
    lost: bool = False


def judge(ending: Ending) -> Outcome:
    """Return what follows from how an attempt ended."""
    if ending.code == EXIT_DONE:
        return Outcome(JobStatus.SUCCEEDED)
    if ending.stop_mode is StopMode.CANCEL or ending.code == EXIT_CANCELLED:
        return Outcome(JobStatus.CANCELLED, "cancelled as asked")
    if ending.code in _KINDS:
        return _failed(_KINDS[ending.code], ending)
    if ending.stop_mode is not None:
        return _stopped(ending)
    if ending.let_go is not None:
        return Outcome(JobStatus.QUEUED, ending.let_go)
    return _ended_by_itself(ending)


def _stopped(ending: Ending) -> Outcome:
    if ending.stop_mode is StopMode.PAUSE:
        return Outcome(JobStatus.PAUSED, "paused as asked")
    if ending.code == EXIT_STOPPED:
        return Outcome(JobStatus.SUCCEEDED, "stopped as asked; the work is kept")
    return Outcome(JobStatus.CANCELLED, "it ended before it could save its work")


def _ended_by_itself(ending: Ending) -> Outcome:
    """Judge an end that nobody asked for."""
    if ending.killed_for_memory:
        evidence = "The kernel's OOM killer ended the trainer: the machine had no memory left."
        return Outcome(
            JobStatus.FAILED, failure=failure_of(FailureKind.OUT_OF_MEMORY, evidence=evidence)
        )
    if ending.code is not None and ending.code > _KILLED:
        number = ending.code - _KILLED
        return Outcome(JobStatus.QUEUED, f"The trainer was killed by signal {number}", lost=True)
    if ending.code == EXIT_STOPPED:
        return Outcome(JobStatus.QUEUED, "The trainer was stopped from outside", lost=True)
    return _failed(FailureKind.INTERNAL, ending)


def _failed(kind: FailureKind, ending: Ending) -> Outcome:
    told = ending.told or {}
    failure = failure_of(
        kind,
        evidence=str(told.get("evidence") or ending.log_tail or f"exit code {ending.code}"),
        detail=str(told.get("detail") or ""),
        changes=told.get("changes"),
    )
    return Outcome(JobStatus.FAILED, failure=failure)
