"""Differences between runs are paired, have an interval, and claim no more than they can."""

import math

import pytest

from app.runs.comparison import (
    Difference,
    detectable,
    difference_of_shares,
    mcnemar,
)


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 1024), (9, 1, 22 / 1024)]
)
def test_mcnemar_is_the_exact_binomial_of_the_changed_items(
    gained: int, lost: int, p: float
) -> None:
    assert math.isclose(mcnemar(gained, lost), p)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_no_change_at_all_still_has_an_interval() -> None:
    low, high = difference_of_shares(0, 0, 50)
    assert low < 0 < high


def test_a_clear_gain_leaves_out_zero() -> None:
    low, high = difference_of_shares(40, 2, 100)
    assert 0.2 < low < 0.38 < high < 0.55


def test_the_interval_stays_within_what_can_be() -> None:
    low, high = difference_of_shares(3, 0, 3)
    assert low >= -1
    assert high <= 1


def test_more_items_can_show_less() -> None:
    few, many = detectable([0, 1] * 10), detectable([0, 1] * 200)
    assert few is not None
    assert many is not None
    assert many < few < 1


def test_one_item_can_show_nothing() -> None:
    assert detectable([1.0]) is None


def test_a_difference_is_one_when_values_differ() -> None:
    assert Difference("a", {"x": 1, "y": 2}).differs
    assert not Difference("a", {"x": [1], "y": [1]}).differs
