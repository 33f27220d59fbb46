"""Pictures keep within their box, whatever the numbers are."""

import math

from hypothesis import given
from hypothesis import strategies as st

from web import svg

values = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(st.tuples(st.floats(0, 1e6), values), max_size=40))
def test_a_curve_never_leaves_its_box(points: list[tuple[float, float]]) -> None:
    curve = svg.spark(points)
    if curve is None:
        return
    numbers = [float(part.strip("ML")) for part in curve.train.split()]
    assert all(0 <= number <= 100 for number in numbers)


@given(st.lists(st.floats(0, 100), max_size=5), st.floats(0, 100))
def test_a_bar_is_never_longer_than_itself(parts: list[float], total: float) -> None:
    pieces = svg.bar([(part, "f1") for part in parts], total)
    assert all(piece.start + piece.width <= 101 for piece in pieces)


def test_an_interval_that_contains_zero_spans_the_zero_line() -> None:
    plot = svg.intervals([(-1.0, 2.0, 5.0)])
    (one,) = plot.intervals
    assert plot.zero is not None
    assert one.low < plot.zero < one.point < one.high


def test_no_point_is_no_curve() -> None:
    assert svg.spark([(1, math.nan)]) is None
