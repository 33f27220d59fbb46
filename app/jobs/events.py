"""The events of a job as trainer, recorder, socket and page share them. Pure.

A trainer appends one JSON object a line to ``events.jsonl``; its ``seq`` counts that file's lines.
The stored event gets the job's own ``seq``, which also counts state changes made by the server.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class EventType(StrEnum):
    """What an event tells; ``values`` differs by type.

    metrics     {metric name: number|null}, ``step`` set
    state       {"status", "reason"?, "failure"?} (by the server or the worker, never the trainer)
    phase       {"phase": loading|preparing|training|evaluating|saving|resumed|…, "total_steps"?,
                "detail"?, "within"?: validation|saving between two steps}; "resumed" has "step":
                points after it are void
    log         {"level", "text"}
    checkpoint  {"path", "bytes", "best"?, "eval_loss"?}, ``step`` set
    evaluation  {"evaluation": report.json's content or a summary}
    sample      reserved for probe prompts
    alert       {"code", "text"}
    failure     {"kind", "evidence", "detail"?, "changes"?: {dotted field: new value}}
    """

    METRICS = "metrics"
    STATE = "state"
    PHASE = "phase"
    LOG = "log"
    CHECKPOINT = "checkpoint"
    EVALUATION = "evaluation"
    SAMPLE = "sample"
    ALERT = "alert"
    FAILURE = "failure"


class JobEvent(BaseModel):
    """One event: its place, kind, moment (UTC), training step if any, and values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: int
    type: EventType
    at: datetime
    step: int | None = None
    values: dict[str, Any]
