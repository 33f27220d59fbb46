"""The states of a job, which follows which, and the kinds of failure. Pure.

Knows neither database nor queue; ``jobs.service.transition`` is the only door through which a
stored job takes one of these states.

    queued → starting → running → succeeded
      │         │          ├→ stopping → succeeded (kept the work) | cancelled
      │         │          └→ pausing → paused → queued
      └→ cancelled         └→ failed
    any live state → queued (lease expired, resumes) or failed (worker lost)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    PAUSING = "pausing"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing follows but a retry."""
        return self in FINAL

    @property
    def is_live(self) -> bool:
        """Tell whether a worker holds the job, with a lease that a reaper watches."""
        return self in LIVE


class JobKind(StrEnum):
    """What may be queued."""

    TRAIN = "train"
    ANALYSE_DATASET = "analyse_dataset"
    SPLIT_DATASET = "split_dataset"
    FETCH_MODEL = "fetch_model"
    PREFLIGHT = "preflight"
    TOKEN_REPORT = "token_report"  # noqa: S105  # a kind, no password


class StopMode(StrEnum):
    """What a user wants of a running job."""

    SAVE = "save"
    CANCEL = "cancel"
    PAUSE = "pause"


S = JobStatus
FINAL = frozenset({S.SUCCEEDED, S.CANCELLED, S.FAILED})
LIVE = frozenset({S.STARTING, S.RUNNING, S.STOPPING, S.PAUSING})

TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    S.QUEUED: frozenset({S.STARTING, S.CANCELLED, S.PAUSED}),
    S.STARTING: frozenset(
        {S.RUNNING, S.STOPPING, S.PAUSING, S.SUCCEEDED, S.FAILED, S.QUEUED, S.CANCELLED}
    ),
    S.RUNNING: frozenset({S.SUCCEEDED, S.FAILED, S.STOPPING, S.PAUSING, S.QUEUED, S.CANCELLED}),
    S.STOPPING: frozenset({S.SUCCEEDED, S.CANCELLED, S.FAILED, S.QUEUED}),
    S.PAUSING: frozenset({S.PAUSED, S.SUCCEEDED, S.FAILED, S.CANCELLED, S.QUEUED, S.STOPPING}),
    S.PAUSED: frozenset({S.QUEUED, S.CANCELLED}),
    S.SUCCEEDED: frozenset(),
    S.CANCELLED: frozenset({S.QUEUED}),  # retry
    S.FAILED: frozenset({S.QUEUED}),  # retry
}


class InvalidTransition(Exception):  # named as the user reads it
    """A job cannot go from one state to another."""

    def __init__(self, current: JobStatus, wanted: JobStatus) -> None:
        super().__init__(f"a job that is {current} cannot become {wanted}")
        self.current, self.wanted = current, wanted


def check_transition(current: JobStatus, wanted: JobStatus) -> None:
    """Raise ``InvalidTransition`` unless ``TRANSITIONS`` allows the step."""
    if wanted not in TRANSITIONS[current]:
        raise InvalidTransition(current, wanted)


class FailureKind(StrEnum):
    """Why a job failed, in a word that scripts may rely on."""

    OUT_OF_MEMORY = "out_of_memory"
    BAD_DATASET = "bad_dataset"
    MODEL_UNAVAILABLE = "model_unavailable"
    TEMPLATE_MISMATCH = "template_mismatch"
    DIVERGED = "diverged"
    DISK_FULL = "disk_full"
    WORKER_LOST = "worker_lost"
    FOREIGN_PROCESS = "foreign_process"
    INTERNAL = "internal"


EXIT_DONE = 0
EXIT_STOPPED = 3
EXIT_CANCELLED = 4
EXIT_CODES: Mapping[FailureKind, int] = {kind: 10 + place for place, kind in enumerate(FailureKind)}


@dataclass(frozen=True)
class FailureText:
    """What the page says of a kind of failure; evidence comes from the job itself."""

    title: str
    explanation: str
    next_step: str


FAILURES: Mapping[FailureKind, FailureText] = {
    FailureKind.OUT_OF_MEMORY: FailureText(
        "Out of memory",
        "The device had no memory left for a training step.",
        "Retry from the last checkpoint with half the batch size and twice the accumulation: "
        "the same effective batch in less memory.",
    ),
    FailureKind.BAD_DATASET: FailureText(
        "The dataset cannot be trained",
        "Rows of the dataset could not be turned into tokens to learn from.",
        "Open the dataset's problems, or launch without its bad rows.",
    ),
    FailureKind.MODEL_UNAVAILABLE: FailureText(
        "The base model cannot be loaded",
        "Its files are missing, incomplete or of a kind that is not supported.",
        "Check the model on the Models page; download it again or put its folder in place.",
    ),
    FailureKind.TEMPLATE_MISMATCH: FailureText(
        "The chat template does not fit",
        "The model's own template refuses rows of this dataset, or its loss mask cannot be known.",
        "Choose a model whose template takes these roles, or change the rows named below.",
    ),
    FailureKind.DIVERGED: FailureText(
        "The training diverged",
        "The loss became infinite or not a number.",
        "Retry from the last checkpoint with half the learning rate.",
    ),
    FailureKind.DISK_FULL: FailureText(
        "The disk is full",
        "A checkpoint or a result could not be written.",
        "Free disk space, then retry from the last checkpoint.",
    ),
    FailureKind.WORKER_LOST: FailureText(
        "The worker was lost",
        "The worker stopped answering, several times in a row.",
        "See the worker's log and the machine's memory, then retry from the last checkpoint.",
    ),
    FailureKind.FOREIGN_PROCESS: FailureText(
        "Another program holds the device",
        "A process that Tunebox did not start took the device's memory.",
        "End that process, then retry from the last checkpoint.",
    ),
    FailureKind.INTERNAL: FailureText(
        "An error in Tunebox",
        "The trainer ended in a way that it does not know.",
        "Read the log's last lines; retry from the last checkpoint. If it repeats, report it.",
    ),
}
