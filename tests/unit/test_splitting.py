"""Splits part no unit, keep their share, and follow from content, parameters and seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.alike.candidates import Places
from app.datasets.mixing import mix
from app.datasets.splitting import HELD_OUT, Draw, closed, drawn, leaders_of, united


def draw_of(count: int, *, fraction: float = 0.2, seed: int = 1, **more: Places) -> Draw:
    keys = mix(np.arange(count, dtype=np.uint64), 99)
    good = np.ones(count, dtype=np.bool_)
    return Draw(keys, good, fraction, seed, **more)


def units_of(values: list[int]) -> Places:
    return leaders_of(np.array(values, dtype=np.int64))


values = st.lists(st.integers(0, 12), min_size=1, max_size=80)


@settings(deadline=None)
@given(values, st.integers(0, 2**31 - 1), st.floats(0.05, 0.9))
def test_no_unit_is_parted_and_no_more_than_the_share_is_held_out(
    of: list[int], seed: int, fraction: float
) -> None:
    units = units_of(of)
    draw = draw_of(len(of), fraction=fraction, seed=seed)

    held = drawn(draw, units) == HELD_OUT

    assert not np.isin(units[held], units[~held]).any()
    sizes = np.bincount(np.unique(units, return_inverse=True)[1])
    wanted = max(1, round(len(of) * fraction))
    assert np.count_nonzero(held) <= max(wanted, int(sizes.min()))
    assert held.any() == (len(sizes) > 1)
    assert not held.all()


def test_rows_alone_are_held_out_in_exactly_the_share() -> None:
    held = drawn(draw_of(1000, fraction=0.137), np.arange(1000))

    assert np.count_nonzero(held) == 137


@settings(deadline=None)
@given(st.permutations(range(30)))
def test_the_order_of_rows_decides_nothing(order: list[int]) -> None:
    draw, of = draw_of(30), np.arange(30) // 3
    sides = drawn(draw, leaders_of(of))

    mixed_up = Draw(draw.keys[order], draw.good, draw.fraction, draw.seed)

    assert (drawn(mixed_up, leaders_of(of[order])) == sides[order]).all()


def test_another_seed_holds_out_other_rows_and_the_same_one_the_same() -> None:
    one, same, other = (drawn(draw_of(500, seed=seed), np.arange(500)) for seed in (1, 1, 2))

    assert (one == same).all()
    assert (one != other).any()


def test_each_stratum_gives_its_share_and_a_rare_one_is_not_emptied() -> None:
    kinds = np.array([0] * 600 + [1] * 300 + [2] * 99 + [3])

    held = drawn(draw_of(1000, fraction=0.1, strata=kinds), np.arange(1000)) == HELD_OUT

    assert np.bincount(kinds[held], minlength=4).tolist() == [60, 30, 10, 0]


def test_rows_with_errors_count_on_no_side_but_follow_their_unit() -> None:
    draw = draw_of(100, fraction=0.5)
    good = np.arange(100) % 2 == 0
    units = np.arange(100) // 2 * 2

    held = drawn(Draw(draw.keys, good, 0.5, 1), units) == HELD_OUT

    assert np.count_nonzero(held & good) == 25
    assert (held[::2] == held[1::2]).all()


@pytest.mark.parametrize("of", [[], [0, 0, 0]])
def test_what_cannot_be_parted_is_trained(of: list[int]) -> None:
    assert not drawn(draw_of(len(of)), units_of(of)).any()


@settings(deadline=None)
@given(values)
def test_united_units_part_neither_way_to_group(of: list[int]) -> None:
    one = units_of(of)
    other = units_of([(7 * place) % 5 if place % 3 else -1 for place in range(len(of))])

    units = united(one, other)

    for way in (one, other):
        assert all(len(np.unique(units[way == leader])) == 1 for leader in way)
    assert (units <= np.arange(len(of))).all()
    assert (units[units] == units).all()


def test_a_unit_with_one_row_held_out_is_held_out_whole() -> None:
    sides = closed(np.array([0, 1, 0, 0], dtype=np.uint8), np.array([0, 0, 2, 2]))

    assert sides.tolist() == [1, 1, 0, 0]
