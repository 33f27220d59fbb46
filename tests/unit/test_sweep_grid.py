"""A sweep's points: every combination, or a draw that repeats; never more than it may make."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.sweeps.grid import MOST, Range, Search, Unsearchable, Values, points, size

RATE = "training.learning_rate"
RANK = "adapter.rank"


def search(**changes: Any) -> Search:
    return Search.model_validate({"fields": {RANK: {"values": [4, 8]}}, **changes})


def test_a_grid_has_every_combination_once_with_the_last_field_fastest() -> None:
    asked = search(fields={RANK: {"values": [4, 8, 8]}, RATE: {"values": [1e-4, 1e-3]}})
    assert points(asked) == [
        {RANK: 4, RATE: 1e-4},
        {RANK: 4, RATE: 1e-3},
        {RANK: 8, RATE: 1e-4},
        {RANK: 8, RATE: 1e-3},
    ]


def test_a_log_range_is_evenly_apart_in_its_powers() -> None:
    assert Range(low=1e-5, high=1e-3, scale="log", count=3).spread() == (1e-5, 1e-4, 1e-3)


def test_whole_ends_give_whole_numbers_each_once() -> None:
    assert Range(low=1, high=3, count=9).spread() == (1, 2, 3)
    assert all(isinstance(one, int) for one in Range(low=8, high=64, count=4).spread())


def test_one_point_of_a_range_is_its_middle() -> None:
    assert Range(low=2.0, high=4.0, count=1).spread() == (3.0,)


def test_true_and_one_are_two_values() -> None:
    assert size(search(fields={"x": {"values": [True, 1]}})) == 2


@pytest.mark.parametrize(
    "space",
    [
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "scale": "log"},
        {"values": []},
        {"low": 1, "high": 2, "step": 3},
        {"values": [1], "low": 1, "high": 2},
    ],
)
def test_what_is_no_space_is_refused(space: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        search(fields={RANK: space})


def test_more_combinations_than_a_sweep_takes_are_refused_with_their_number() -> None:
    asked = search(fields={RANK: {"values": list(range(13))}, RATE: {"values": list(range(5))}})
    with pytest.raises(Unsearchable, match="65 combinations") as caught:
        points(asked)
    assert caught.value.field == "fields"


def test_as_many_as_a_sweep_takes_are_made() -> None:
    asked = search(fields={RANK: {"values": list(range(16))}, RATE: {"values": list(range(4))}})
    assert len(points(asked)) == MOST == size(asked)


def test_a_single_run_is_no_sweep() -> None:
    with pytest.raises(Unsearchable):
        points(search(fields={RANK: {"values": [8]}}))


def test_random_needs_to_know_how_many() -> None:
    with pytest.raises(Unsearchable) as caught:
        points(search(method="random"))
    assert caught.value.field == "runs"


def test_a_small_space_is_drawn_once_each() -> None:
    asked = search(method="random", runs=10)
    assert sorted(one[RANK] for one in points(asked)) == [4, 8]


@given(st.integers(0, 2**31 - 1), st.integers(2, MOST))
def test_a_draw_repeats_and_stays_between_the_ends(seed: int, runs: int) -> None:
    space = Range(low=1.234e-5, high=9.876e-3, scale="log")
    asked = Search(method="random", runs=runs, seed=seed, fields={RATE: space})
    found = points(asked)
    assert found == points(asked)
    assert len({one[RATE] for one in found}) == len(found) == runs
    assert all(space.low <= one[RATE] <= space.high for one in found)


def test_another_seed_draws_other_points() -> None:
    spaces: dict[str, Values | Range] = {RATE: Range(low=1e-5, high=1e-3, scale="log")}
    first, second = (
        points(Search(method="random", runs=8, seed=seed, fields=spaces)) for seed in (0, 1)
    )
    assert first != second
