"""Thinned curves keep what matters: ends, extremes, order, and gaps."""

import math

from hypothesis import given
from hypothesis import strategies as st

from app.metrics.downsampling import downsample

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=400)


@given(VALUES, st.integers(2, 60))
def test_no_more_points_than_asked_for_in_order_and_all_measured(
    values: list[float | None], points: int
) -> None:
    steps = [3 * place for place in range(len(values))]
    curve = downsample(steps, values, points)
    assert len(curve.step) <= max(points, 2)
    assert curve.step == sorted(set(curve.step))
    assert all(
        values[step // 3] == value for step, value in zip(curve.step, curve.value, strict=True)
    )


@given(VALUES, st.integers(4, 60))
def test_the_highest_and_the_lowest_value_are_kept(values: list[float | None], points: int) -> None:
    known = [value for value in values if value is not None]
    curve = downsample(list(range(len(values))), values, points)
    kept = [value for value in curve.value if value is not None]
    assert bool(kept) == bool(known)
    if known:
        assert (min(kept), max(kept)) == (min(known), max(known))


def test_a_spike_of_one_step_survives() -> None:
    values = [math.sin(step / 500) for step in range(100_000)]
    values[54_321] = 99.0
    curve = downsample(list(range(100_000)), values, 1000)
    assert (54_321, 99.0) in zip(curve.step, curve.value, strict=True)
    assert max(high for high in curve.high if high is not None) == 99.0


def test_first_and_last_step_are_kept() -> None:
    curve = downsample(list(range(1, 10_001)), [1.0] * 10_000, 50)
    assert (curve.step[0], curve.step[-1]) == (1, 10_000)


def test_a_short_curve_stays_as_it_is() -> None:
    curve = downsample([1, 2, 5], [1.0, None, 2.0], 1000)
    assert (curve.step, curve.value) == ([1, 2, 5], [1.0, None, 2.0])
