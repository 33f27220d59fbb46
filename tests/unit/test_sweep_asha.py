"""Losing runs end at a rung, judged once, against those who came there before."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sweeps.asha import Curve, Goal, Halving, Verdict, best, cost, judge, reached

THIRDS = Halving(factor=3, rungs=2)
EARLY = Halving(factor=3, rungs=1)


def curve(*values: float | None, total: int | None = 9) -> Curve:
    """Return a curve with a figure at each step from 1."""
    return Curve(total, list(enumerate(values, start=1)))


def judged(last: float | None, *before: float | None, goal: Goal = "min") -> Verdict:
    """Return what is said of a run at its rung, a third of its way."""
    curves = {str(n): curve(9, 9, value) for n, value in enumerate((last, *before))}
    verdict = judge("0", curves, halving=EARLY, goal=goal)
    assert verdict is not None
    return verdict


def test_rungs_are_shares_of_a_run() -> None:
    assert THIRDS.shares == pytest.approx((1 / 9, 1 / 3))
    assert Halving(factor=2, rungs=3).shares == (0.125, 0.25, 0.5)


def test_a_rung_is_the_first_validation_at_or_past_it() -> None:
    assert reached(curve(5, 4, 3, 2), THIRDS) == [(1, 5), (3, 3)]
    assert reached(Curve(100, [(50, 2.0), (10, 3.0), (20, 2.5)]), THIRDS) == [(20, 2.5), (50, 2.0)]


def test_a_run_of_unknown_length_has_come_to_no_rung() -> None:
    assert reached(curve(1, 2, 3, total=None), THIRDS) == []


def test_before_the_first_rung_nothing_is_said() -> None:
    assert judge("a", {"a": curve(1, 2)}, halving=EARLY, goal="min") is None


def test_who_comes_first_goes_on() -> None:
    assert judged(7.0).goes_on


def test_among_few_the_best_goes_on_and_the_others_do_not() -> None:
    assert judged(1.0, 2.0, 3.0).goes_on
    assert not judged(2.0, 1.0, 3.0).goes_on


def test_a_third_goes_on_rounded_up() -> None:
    verdict = judged(2.0, 1.0, 3.0, 4.0)
    assert (verdict.place, verdict.of, verdict.keeps, verdict.goes_on) == (2, 4, 2, True)


def test_more_may_be_better() -> None:
    assert judged(0.9, 0.5, 0.2, goal="max").goes_on
    assert not judged(0.2, 0.5, 0.9, goal="max").goes_on


def test_equals_share_a_place() -> None:
    assert judged(1.0, 1.0, 1.0).place == 1


def test_a_figure_that_is_no_number_loses_to_any() -> None:
    assert judged(None, 5.0).place == 2
    assert judged(math.nan, 5.0).place == 2
    assert judged(5.0, None).goes_on


def test_who_has_not_come_to_the_rung_is_not_counted() -> None:
    curves = {"0": curve(9, 9, 2.0), "1": curve(1.0), "2": curve(1.0, 1.0)}
    verdict = judge("0", curves, halving=EARLY, goal="min")
    assert verdict is not None
    assert (verdict.place, verdict.of) == (1, 1)


def test_runs_of_different_length_meet_at_the_same_share() -> None:
    curves = {"0": Curve(9, [(3, 2.0)]), "1": Curve(90, [(3, 1.0), (30, 3.0)])}
    verdict = judge("0", curves, halving=EARLY, goal="min")
    assert verdict is not None
    assert (verdict.place, verdict.of) == (1, 2)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=64), st.integers(2, 8))
def test_the_best_always_goes_on(values: list[float], factor: int) -> None:
    curves = {str(n): Curve(1, [(1, value)]) for n, value in enumerate(values)}
    first = str(values.index(min(values)))
    verdict = judge(first, curves, halving=Halving(factor=factor, rungs=1), goal="min")
    assert verdict is not None
    assert verdict.goes_on


def test_the_best_figure_is_the_earliest_of_equals() -> None:
    assert best(Curve(9, [(1, 3.0), (2, 1.0), (3, 1.0), (4, None)]), "min") == (2, 1.0)
    assert best(Curve(9, [(1, 3.0), (2, 1.0)]), "max") == (1, 3.0)
    assert best(Curve(9, [(1, None)]), "min") is None


def test_cost_is_least_for_the_best() -> None:
    assert cost(1.0, "min") < cost(2.0, "min") < cost(None, "min")
    assert cost(2.0, "max") < cost(1.0, "max") < cost(math.inf, "max")
