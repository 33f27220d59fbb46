"""What a preflight tries next, what it takes for best, and how it tells the end. No model here."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from app.runs.spec import RunConfig
from app.runs.trying import Mode
from worker.trainer import autotuning, fitting, forecast
from worker.trainer.forecast import Pace, Schedule


def config(**training: Any) -> RunConfig:
    return RunConfig.model_validate(
        {"training": {"batch_size": 8, "gradient_accumulation": 1, "max_length": 256, **training}}
    )


def walked(start: RunConfig, device: str) -> list[dict[str, Any]]:
    """Return every change of the way down, each made on top of those before."""
    found: list[dict[str, Any]] = []
    while (changes := fitting.smaller(start, device=device)) is not None:
        found.append(changes)
        start = fitting.applied(start, changes)
    return found


def test_the_way_down_goes_from_what_learns_the_same_to_what_cuts_examples() -> None:
    way = walked(config(gradient_checkpointing=False), "cuda")
    assert way == [
        {"training.batch_size": 4, "training.gradient_accumulation": 2},
        {"training.batch_size": 2, "training.gradient_accumulation": 4},
        {"training.batch_size": 1, "training.gradient_accumulation": 8},
        {"training.gradient_checkpointing": True},
        {"quantization": "nf4"},
        {"training.max_length": 128},
        {"training.max_length": 64},
    ]


def test_a_cpu_is_never_asked_for_4_bits() -> None:
    assert not any("quantization" in step for step in walked(config(), "cpu"))


def test_automatic_checkpointing_on_a_card_is_on_already() -> None:
    way = walked(config(batch_size=1, gradient_checkpointing="auto"), "cuda")
    assert way[0] == {"quantization": "nf4"}


@pytest.mark.parametrize("batch", range(2, 30))
@pytest.mark.parametrize("times", [1, 2, 3, 7])
def test_a_smaller_batch_leaves_the_rows_of_a_step_as_they_are(batch: int, times: int) -> None:
    start = config(batch_size=batch, gradient_accumulation=times)
    after = fitting.applied(start, fitting.split_batch(start, most=batch // 2)).training
    assert after.batch_size <= batch // 2
    assert after.batch_size * after.gradient_accumulation == batch * times


@dataclass
class Try:
    """A try as it was measured; a speed of 0 means that it did not fit."""

    changes: dict[str, Any]
    speed: float
    memory: int
    fits: bool = field(init=False)

    def __post_init__(self) -> None:
        self.fits = self.speed > 0


def test_each_purpose_has_its_own_best() -> None:
    trials = [Try({}, 80, 40), Try({}, 100, 90), Try({}, 95, 60), Try({}, 20, 10), Try({}, 0, 1)]
    chosen = {
        mode: autotuning.best(trials, mode) for mode in (Mode.FAST, Mode.BALANCED, Mode.SMALL)
    }
    assert chosen == {Mode.FAST: 1, Mode.BALANCED: 2, Mode.SMALL: 3}


def machine(config: RunConfig, *, room: int) -> tuple[float, int]:
    """Return speed and memory of a made-up card: larger batches are faster and take more."""
    training = config.training
    twice = fitting.recomputes(config, device="cuda")
    weights = 10 if config.quantization == "nf4" else 30
    memory = weights + training.batch_size * (2 if twice else 8)
    speed = 100 * training.batch_size / (training.batch_size + 1)
    speed *= (0.8 if twice else 1.0) * (0.9 if config.quantization == "nf4" else 1.0)
    return (speed if memory <= room else 0.0), memory


def searched(start: RunConfig, mode: Mode, *, room: int) -> tuple[RunConfig, list[Try]]:
    """Return what the search ends with on the made-up card, and all its tries."""
    trials = [Try({}, *machine(start, room=room))]
    while changes := autotuning.proposed(start, trials, mode=mode, device="cuda"):
        trials.append(Try(changes, *machine(fitting.applied(start, changes), room=room)))
        assert len(trials) < 13, "the search goes on for ever"
    best = trials[autotuning.best(trials, mode)]
    return fitting.applied(start, best.changes), trials


START = config(batch_size=2, gradient_accumulation=8)


def test_fast_finds_the_fastest_setting_that_fits() -> None:
    found, trials = searched(START, Mode.FAST, room=1000)
    assert not fitting.recomputes(found, device="cuda")
    assert found.quantization == "none"
    assert found.training.batch_size == 16
    assert len({str(one.changes) for one in trials}) == len(trials), "something was tried twice"


def test_fast_stops_where_the_card_is_full() -> None:
    found, trials = searched(START, Mode.FAST, room=70)
    assert found.training.batch_size == 4
    assert machine(found, room=70)[0] == max(one.speed for one in trials)


def test_small_finds_the_least_memory_and_keeps_the_examples() -> None:
    start = config(batch_size=4, gradient_accumulation=2, gradient_checkpointing=False)
    found, _ = searched(start, Mode.SMALL, room=1000)
    assert machine(found, room=1000)[1] == 12
    assert found.training.max_length == start.training.max_length


@pytest.mark.parametrize("mode", [Mode.FAST, Mode.BALANCED, Mode.SMALL])
def test_a_search_that_begins_with_what_does_not_fit_goes_down_first(mode: Mode) -> None:
    start = config(batch_size=16, gradient_accumulation=1, gradient_checkpointing=False)
    found, trials = searched(start, mode, room=50)
    assert not trials[0].fits
    assert machine(found, room=50)[0] > 0


@pytest.mark.parametrize("mode", [Mode.FAST, Mode.BALANCED, Mode.SMALL])
def test_every_try_has_the_rows_of_a_step_that_were_asked_for(mode: Mode) -> None:
    _, trials = searched(START, mode, room=120)
    for one in trials:
        training = fitting.applied(START, one.changes).training
        assert training.batch_size * training.gradient_accumulation == 16


def test_a_pace_is_found_again_in_what_it_took() -> None:
    pace = forecast.fitted([(count, 0.5 + 0.01 * count) for count in (10, 50, 200)])
    assert pace.base == pytest.approx(0.5)
    assert pace.each == pytest.approx(0.01)


def test_a_pace_that_would_start_below_zero_starts_at_zero() -> None:
    pace = forecast.fitted([(10, 0.0), (100, 2.0)])
    assert pace.base == 0
    assert pace.of(50) > 0


def test_batches_that_took_less_the_larger_they_were_take_their_mean() -> None:
    assert forecast.fitted([(10, 3.0), (100, 1.0)]) == Pace(2.0, 0.0)


def test_the_steps_sum_up_to_what_the_run_really_does() -> None:
    rows = [[[0] * length] for length in (3, 9, 4, 7, 5)]
    schedule = Schedule(steps=6, batch_size=2, rows_in_step=4, seed=1)  # three epochs of two steps
    pace = Pace(1.0, 0.1)
    by_hand = sum(
        pace.of(sum(map(forecast.padded, forecast.batches(rows, schedule, step))))
        for step in range(2)
    )
    found = forecast.seconds_of_steps(rows, schedule, pace=pace, positions=forecast.padded)
    assert found == pytest.approx(3 * by_hand)
    assert forecast.tokens_of_steps(rows, schedule) == 3 * 28


def test_the_heaviest_batch_is_made_of_the_longest_rows() -> None:
    rows = [[[0] * 3], [[0] * 5, [0] * 6], [[0] * 9]]
    assert forecast.heaviest(rows, 2) == [1, 2]
    assert forecast.padded(rows) == 4 * 9
