"""Signs of trouble: found where they are, not found in noise, judged alike after a resume."""

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
