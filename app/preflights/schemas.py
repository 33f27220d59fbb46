"""Bodies of the preflight endpoints. Knows no rule."""

from typing import Any

from pydantic import Field

from app.kit.schemas import Moment, Schema
from app.runs.schemas import RunRequest
from app.runs.trying import Mode


class PreflightRequest(RunRequest):
    """A run as it would be launched, and what to look for."""

    mode: Mode = Field(
        default=Mode.CHECK,
        description="check: does it fit, and if not, what would. fast, balanced, small: search.",
    )


class TrialOut(Schema):
    """One setting that was tried: what it changes of the run, and what was measured.

    Bytes and seconds. ``held_bytes`` is the peak of the process, ``used_bytes`` of its tensors;
    ``seconds`` is the whole run without the evaluation after it.
    """

    changes: dict[str, Any]
    words: str
    fits: bool
    reason: str = ""
    used_bytes: int = 0
    held_bytes: int = 0
    available_bytes: int = 0
    engine: str = ""
    step_seconds: float | None = None
    tokens_per_second: float | None = None
    load_seconds: float | None = None
    first_step_seconds: float | None = None
    steps: int | None = None
    seconds: float | None = None


class PreflightOut(Schema):
    """How a preflight stands. ``fits`` and what follows once ``status`` is succeeded.

    ``chosen`` is the place among ``trials`` of what is proposed, ``changes`` what it changes of the
    run; none are proposed where the settings as asked are kept, and where nothing fits.
    """

    id: str
    job: str
    run: str | None
    owner: str
    mode: Mode
    status: str
    doing: str | None
    waiting_reason: str | None
    failure: str | None
    dataset: str
    dataset_version: int
    base_model: str
    device: str | None
    fits: bool | None
    chosen: int | None
    changes: dict[str, Any]
    trials: list[TrialOut]
    spec: dict[str, Any]
    created_at: Moment
    finished_at: Moment | None
