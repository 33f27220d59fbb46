"""From whatever a library raised to one of the failures that the page explains.

Knows the libraries' words for a full memory or disk, yet imports none of them: a failure must be
named even where torch could not be imported.
"""

import errno
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.jobs.state import FailureKind

if TYPE_CHECKING:  # a preview names failures too, and need not wait for pydantic
    from app.runs.spec import RunConfig

_OUT_OF_MEMORY = (
    "out of memory",
    "cuda error: out of memory",
    "can't allocate memory",
    "cublas_status_alloc_failed",
    "failed to allocate",
)
_NO_SPACE = ("no space left on device", "disk quota exceeded")
_EVIDENCE = 1000


class TrainerError(Exception):
    """A failure that the trainer found and can name itself; ``changes`` cure it if it knows any."""

    def __init__(
        self, kind: FailureKind, text: str, *, changes: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.kind, self.changes = kind, changes


@dataclass(frozen=True)
class Failure:
    """What a failure event tells."""

    kind: FailureKind
    evidence: str
    detail: str | None
    changes: Mapping[str, Any]


def describe(error: BaseException, config: "RunConfig | None") -> Failure:
    """Return the kind, the line that shows it, the traceback and the changes a retry should make."""
    kind = classify(error)
    first = str(error).strip().splitlines() or [type(error).__name__]
    named = isinstance(error, TrainerError)
    evidence = first[0] if named else f"{type(error).__name__}: {first[0]}"
    detail = None if named else "".join(traceback.format_exception(error)[-4:]).strip()
    changes = getattr(error, "changes", None) or changes_for(kind, config)
    return Failure(kind, evidence[:_EVIDENCE], detail, changes)


def classify(error: BaseException) -> FailureKind:
    """Return the kind of a failure; a chain of causes is followed to the first that is known."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            break
        kind = _own_kind(seen)
        if kind is not FailureKind.INTERNAL:
            return kind
        seen = seen.__cause__ or seen.__context__
    return FailureKind.INTERNAL


def _own_kind(error: BaseException) -> FailureKind:
    kind = getattr(error, "kind", None)
    if isinstance(kind, FailureKind):
        return kind
    text = str(error).lower()
    if (isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}) or any(
        words in text for words in _NO_SPACE
    ):
        return FailureKind.DISK_FULL
    name = type(error).__name__
    if name == "OutOfMemoryError" or isinstance(error, MemoryError):
        return FailureKind.OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY):
        return FailureKind.OUT_OF_MEMORY
    return FailureKind.INTERNAL


def changes_for(kind: FailureKind, config: "RunConfig | None") -> dict[str, Any]:
    """Return the spec's fields that a retry should alter, with their new values."""
    if config is None:
        return {}
    training = config.training
    if kind is FailureKind.DIVERGED:
        return {"training.learning_rate": training.learning_rate / 2}
    if kind is not FailureKind.OUT_OF_MEMORY:
        return {}
    if training.batch_size > 1:
        half = training.batch_size // 2
        steps = -(-training.batch_size * training.gradient_accumulation // half)
        return {"training.batch_size": half, "training.gradient_accumulation": steps}
    if training.gradient_checkpointing is not True:
        return {"training.gradient_checkpointing": True}
    return {"training.max_length": max(16, training.max_length // 2)}
