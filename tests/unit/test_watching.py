"""Signs of trouble: found where they are, not found in noise, judged alike after a resume."""

import json
import random

import pytest

from app.runs.spec import Watch
from worker.trainer.watching import Trouble, Watcher

PLAN = Watch(loss_steps=3)


def looked(losses: list[float], norms: list[float] | None = None) -> list[Trouble]:
    """Return all troubles of a run; the watcher is stored and read again after each step."""
    seen, found = None, []
    for step, loss in enumerate(losses, start=1):
        watcher = Watcher.remembering(seen)
        norm = norms[step - 1] if norms else 1.0
        found.append(watcher.look(PLAN, step=step, loss=loss, norm=norm))
        seen = watcher.remembered()
    return [one for one in found if one]


def calm(count: int) -> list[float]:
    noise = random.Random(1)
    return [1.0 + noise.gauss(0, 0.05) for _ in range(count)]


def test_a_falling_and_noisy_loss_is_no_trouble() -> None:
    assert looked([3.0 * 0.98**step + one * 0.2 for step, one in enumerate(calm(300))]) == []


def test_a_loss_that_stays_above_its_band_is_told_with_its_first_step() -> None:
    (trouble,) = looked([*calm(40), 3.0, 3.1, 3.2])
    assert (trouble.code, trouble.since, trouble.is_end) == ("diverging", 41, False)


def test_a_single_spike_is_no_trouble() -> None:
    assert looked([*calm(40), 3.0, 3.0, *calm(5)]) == []


def test_steep_gradients_are_told_when_they_last() -> None:
    (trouble,) = looked(calm(6), [1, 500, 500, 500, 1, 500])
    assert (trouble.code, trouble.since) == ("steep_gradients", 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_the_end(value: float) -> None:
    (trouble,) = looked([1.0, value])
    assert trouble.is_end


def validated(*points: tuple[float, float], plan: Watch = PLAN) -> list[Trouble]:
    """Return all troubles of validations, each after two steps with a training loss."""
    seen, found = None, []
    for number, (training, validation) in enumerate(points, start=1):
        watcher = Watcher.remembering(json.loads(json.dumps(seen)))
        for step in (2 * number - 1, 2 * number):
            watcher.look(plan, step=step, loss=training, norm=1.0)
        found.append(watcher.look_at_validation(plan, step=2 * number, loss=validation))
        seen = watcher.remembered()
    return [one for one in found if one]


def test_validation_that_rises_three_times_while_training_falls_is_told_with_its_numbers() -> None:
    (trouble,) = validated((1.0, 0.9), (0.8, 0.8), (0.7, 0.85), (0.75, 0.9), (0.5, 0.95))
    assert (trouble.code, trouble.since, trouble.is_end) == ("validation_rising", 4, False)
    assert "from 0.8 at step 4 to 0.95 at step 10" in trouble.text
    assert "from 0.8 to 0.5" in trouble.text


@pytest.mark.parametrize(
    "points",
    [
        [(1.0, 0.8), (0.9, 0.85), (0.8, 0.9)],
        [(1.0, 0.8), (0.9, 0.85), (0.8, 0.84), (0.7, 0.9), (0.6, 0.95)],
        [(1.0, 0.8), (1.1, 0.85), (1.2, 0.9), (1.3, 0.95)],
    ],
    ids=["twice only", "a fall between", "training rises too"],
)
def test_other_validations_are_no_trouble(points: list[tuple[float, float]]) -> None:
    assert validated(*points) == []


def test_validation_that_goes_on_rising_is_told_again_after_three_more() -> None:
    assert len(validated(*((1 - 0.1 * n, 1 + 0.1 * n) for n in range(7)))) == 2


def test_the_bases_own_validation_does_not_count() -> None:
    watcher = Watcher()
    assert watcher.look_at_validation(PLAN, step=0, loss=1.0) is None
    assert watcher.validations == []
