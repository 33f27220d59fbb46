"""A trainer that stands still in a step is noticed once; what may take its time is left alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.jobs.events import EventType, JobEvent
from worker.stalling import Pulse

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Told:
    """A trainer's events, a second and a half after the other; ``now`` runs on with them."""

    def __init__(self, *, seconds: float = 1.5) -> None:
        self.pulse, self.now, self.seconds = Pulse(), 0.0, seconds

    def tell(self, type_: EventType, **values: Any) -> "Told":
        self.now += self.seconds
        at = BEGIN + timedelta(seconds=self.now)
        event = JobEvent(seq=1, type=type_, at=at, step=1, values=values)
        self.pulse.notice(event, now=self.now)
        return self

    def steps(self, count: int) -> "Told":
        for _ in range(count):
            self.tell(EventType.METRICS, **{"train/loss": 1.0})
        return self

    def after(self, seconds: float) -> str | None:
        return self.pulse.stall(now=self.now + seconds)


def training(count: int, *, seconds: float = 1.5) -> Told:
    return Told(seconds=seconds).tell(EventType.PHASE, phase="training").steps(count)


def test_a_stall_is_told_once_with_its_times_and_again_after_another_step() -> None:
    told = training(8)
    assert told.after(59) is None
    text = told.after(61)
    assert text is not None
    assert "No step for 61 s; a step usually takes 1.5 s" in text
    told.pulse.is_told = True
    assert told.after(200) is None
    assert told.steps(1).after(61) is not None


def test_slow_steps_have_ten_times_their_own_time() -> None:
    told = training(8, seconds=30)
    assert told.after(299) is None
    assert told.after(301) is not None


def test_a_single_slow_step_does_not_count() -> None:
    told = training(8)
    told.now += 50
    assert told.steps(1).after(61) is not None


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (EventType.PHASE, {"phase": "evaluating"}),
        (EventType.PHASE, {"phase": "saving"}),
        (EventType.PHASE, {"phase": "training", "within": "validation"}),
        (EventType.PHASE, {"phase": "training", "within": "saving"}),
    ],
)
def test_what_may_take_its_time_is_no_stall(type_: EventType, values: dict[str, Any]) -> None:
    assert training(8).tell(type_, **values).after(9999) is None


@pytest.mark.parametrize(
    ("within", "type_", "values"),
    [
        ("validation", EventType.METRICS, {"eval/loss": 1.0}),
        ("saving", EventType.CHECKPOINT, {"path": "checkpoints/step-1"}),
    ],
)
def test_after_it_the_next_step_is_measured_from_there(
    within: str, type_: EventType, values: dict[str, Any]
) -> None:
    told = training(8).tell(EventType.PHASE, phase="training", within=within)
    told.now += 900
    told.tell(type_, **values)
    assert max(told.pulse.seconds) == 1.5
    assert told.after(59) is None
    assert told.after(61) is not None


def test_of_too_few_steps_nothing_is_usual() -> None:
    assert training(4).after(9999) is None
    assert Told().tell(EventType.PHASE, phase="loading").after(9999) is None
