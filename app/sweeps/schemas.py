"""Bodies of the sweep endpoints. Knows no rule."""

from typing import Any

from pydantic import Field

from app.kit.schemas import Moment, Schema
from app.runs.schemas import RunRequest
from app.sweeps.asha import Goal, Halving
from app.sweeps.grid import Search


class SweepRequest(RunRequest):
    """A run as it would be launched, which of its fields vary, and when losing runs end."""

    search: Search
    metric: str = Field(
        default="eval/loss",
        max_length=60,
        description="The validation figure by which runs are compared; which there are depends on "
        "the objective.",
    )
    goal: Goal | None = Field(
        default=None,
        description="Whether less or more of it is better; left out, as is usual for the figure.",
    )
    halving: Halving | None = Field(
        default=None, description="End losing runs early; left out, all run to their end."
    )


class SweepRunOut(Schema):
    """A run of a sweep: what it changes, its best figure, and why it was ended early, if it was."""

    id: str
    number: int
    name: str
    status: str
    step: int
    total_steps: int | None
    values: dict[str, Any]
    best_value: float | None
    best_step: int | None
    ended: dict[str, Any] | None


class SweepOut(Schema):
    """A sweep with its runs, the best first; those without a figure come last."""

    id: str
    name: str
    owner: str
    owner_name: str
    dataset: str
    base_model: str
    search: Search
    metric: str
    goal: Goal
    halving: Halving | None
    unfinished: int
    runs: list[SweepRunOut]
    created_at: Moment
    stopped_at: Moment | None


class SweepList(Schema):
    """A page of sweeps, newest first."""

    items: list[SweepOut]
    next: str | None
    total: int
