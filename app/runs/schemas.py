"""Bodies of the run and comparison endpoints. Knows no rule."""

from typing import Any, Literal

from pydantic import Field

from app.kit.schemas import Moment, Schema
from app.runs.spec import MOST_DEVICES, Preset


class DatasetChoice(Schema):
    """A dataset, at its latest version where none is named."""

    id: str = Field(min_length=1, max_length=100)
    version: int | None = Field(default=None, ge=1)


class ResourceRequest(Schema):
    """What a run needs to start; the service says what there is."""

    devices: int = Field(default=1, ge=1, le=MOST_DEVICES)
    kind: Literal["auto", "cpu", "cuda"] = "auto"


class RunRequest(Schema):
    """What is to be trained. Whatever ``config`` leaves out comes from the preset."""

    name: str | None = Field(default=None, max_length=120)
    dataset: str | DatasetChoice
    base_model: str = Field(min_length=1, max_length=100)
    preset: Preset = Preset.BALANCED
    config: dict[str, Any] = Field(default_factory=dict)
    resources: ResourceRequest = ResourceRequest()
    priority: Literal["low", "normal", "high"] = "normal"
    note: str = Field(default="", max_length=10_000)


class FailureOut(Schema):
    """Why a run failed; ``changes`` are what a retry should change, by dotted field."""

    kind: str
    title: str
    explanation: str
    evidence: str
    next_step: str
    changes: dict[str, Any] = Field(default_factory=dict)


class RunOut(Schema):
    """A run with the state of its job. ``eta`` is in seconds, ``reasons`` are the preset's."""

    id: str
    number: int
    name: str
    job: str
    owner: str
    owner_name: str
    dataset: str
    dataset_name: str
    dataset_version: int
    base_model: str
    base_model_name: str
    status: str
    attempt: int
    phase: str | None
    step: int
    total_steps: int | None
    progress: float
    eta: float | None
    predicted_start: Moment | None
    predicted_finish: Moment | None
    waiting_reason: str | None
    failure: FailureOut | None
    spec: dict[str, Any]
    reasons: dict[str, str]
    summary: dict[str, Any]
    note: str
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


class RunList(Schema):
    """A page of runs."""

    items: list[RunOut]
    next: str | None
    total: int


class StopRequest(Schema):
    """``save`` keeps the work so far and ends well; ``cancel`` drops it."""

    mode: Literal["save", "cancel"] = "save"


class RetryRequest(Schema):
    """Where to go on from, and what to change (``training.learning_rate``: new value)."""

    from_: Literal["checkpoint", "start"] = Field(default="checkpoint", alias="from")
    changes: dict[str, Any] = Field(default_factory=dict)


class MetricsOut(Schema):
    """Curves by metric name; ``total_points`` are counted before thinning."""

    series: dict[str, dict[str, list[int | float | str | None]]]
    total_points: dict[str, int]


class EventsOut(Schema):
    """Stored events of the run's job; ask again with the last ``seq``."""

    items: list[dict[str, Any]]
    last: int


class LogOut(Schema):
    """The last lines of the trainer's log; ``whole`` tells whether that is all of it."""

    lines: list[str]
    whole: bool


class CheckpointOut(Schema):
    """A state of the run that it can go on from; ``kept`` tells whether it is still there."""

    step: int
    bytes: int | None
    eval_loss: float | None
    best: bool
    kept: bool
    at: Moment


class CheckpointList(Schema):
    """The checkpoints of a run, newest first."""

    items: list[CheckpointOut]


class ComparedRunOut(Schema):
    """A run of a comparison; ``label`` is its letter."""

    id: str
    label: str
    number: int
    name: str
    status: str
    dataset: str
    base_model: str


class DifferenceOut(Schema):
    """A setting whose value is not the same in all runs, by run id."""

    field: str
    values: dict[str, Any]


class PairedOut(Schema):
    """How ``b`` differs from ``a`` on their common items; ``a`` may be ``base``.

    ``detectable`` is the smallest difference that so many items can show.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float | None
    test: str
    detectable: float | None
    n: int
    changed: int


class ComparedMetricOut(Schema):
    """One metric of a suite over the runs: tuned values by run id, and the paired differences."""

    suite: str
    metric: str
    better: str
    n: int
    base: dict[str, Any] | None
    values: dict[str, dict[str, Any] | None]
    paired: list[PairedOut]


class FlippedOut(Schema):
    """An item that some got right and some wrong; ``base`` is a key beside the run ids."""

    line: int
    prompt: list[Any]
    expected: str
    outputs: dict[str, str]
    right: dict[str, bool]


class ComparisonOut(Schema):
    """Two to eight runs side by side."""

    runs: list[ComparedRunOut]
    config_differences: list[DifferenceOut]
    metrics: dict[str, dict[str, float | None]]
    evaluations: list[ComparedMetricOut]
    flipped: list[FlippedOut]
    notes: list[str]
