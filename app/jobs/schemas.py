"""Bodies of requests and answers about jobs and devices. Knows no database."""

from typing import Any

from pydantic import Field

from app.jobs.events import JobEvent
from app.jobs.state import JobKind, JobStatus, StopMode
from app.kit.schemas import Moment, Schema


class FailureOut(Schema):
    """Why a job failed, in words, and what to do next."""

    kind: str
    title: str
    explanation: str
    evidence: str
    next_step: str
    changes: dict[str, Any] = Field(default_factory=dict)


class JobOut(Schema):
    """A job as the queue shows it. ``eta`` is the seconds that are left."""

    id: str
    number: int
    kind: JobKind
    lane: str
    title: str
    subject: str
    owner: str
    priority: int
    status: JobStatus
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
    worker: str | None
    created_at: Moment
    queued_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


class JobPage(Schema):
    """One page of jobs."""

    items: list[JobOut]
    next: str | None
    total: int


class EventList(Schema):
    """Stored events in order; ``next`` is the ``after`` of the next call, None at the end."""

    items: list[JobEvent]
    next: int | None


class StopRequest(Schema):
    """How a job is to end: its work kept or dropped."""

    mode: StopMode = StopMode.CANCEL


class DeviceJob(Schema):
    """The job that a device works on."""

    id: str
    number: int
    kind: JobKind
    title: str
    status: JobStatus
    progress: float


class DeviceOut(Schema):
    """A device, its last reading and what it does. Sizes in bytes, power in watts."""

    id: str
    host: str
    name: str
    kind: str
    index: int
    memory_bytes: int
    memory_used: int | None
    utilization: float | None
    temperature: float | None
    power: float | None
    driver: str | None
    compute_capability: str | None
    foreign: list[dict[str, Any]]
    last_seen_at: Moment
    job: DeviceJob | None
    run: str | None


class DeviceList(Schema):
    """All devices that workers offer now."""

    items: list[DeviceOut]
    next: None = None
    total: int
