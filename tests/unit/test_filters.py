"""Numbers and times read as people write them, with units, and a dash for what is unknown."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from web import filters

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("filter_", "value", "text"),
    [
        (filters.count, 12480, "12,480"),
        (filters.number, 0.25, "0.25"),
        (filters.number, -3, "−3"),
        (filters.filesize, 512, "512 B"),
        (filters.filesize, 3400, "3.4 kB"),
        (filters.filesize, 41_000_000, "41 MB"),
        (filters.memory, 45 * 2**30, "45 GiB"),
        (filters.memory, 31.42 * 2**30, "31.4 GiB"),
        (filters.duration, 0.42, "0.4 s"),
        (filters.duration, 48, "48 s"),
        (filters.duration, 780, "13 min"),
        (filters.duration, 3599, "1 h"),
        (filters.duration, 5160, "1 h 26 min"),
        (filters.duration, 187_200, "2 d 4 h"),
        (filters.loss, 0.94712, "0.947"),
        (filters.loss, 0.00042, "4.20e-04"),
        (filters.learning_rate, 2e-4, "2e-4"),
        (filters.learning_rate, 1.5e-3, "1.5e-3"),
        (filters.percent, 0.708, "71 %"),
        (filters.signed, -1.04, "−1.0"),
        (filters.tokens, 9_320_000, "9.32 M"),
        (filters.tokens, 43_600, "43.6 k"),
        (filters.tokens, 8_190_000_000, "8.19 B"),
        (filters.plain, True, "on"),
        (filters.plain, ("q_proj", "v_proj"), "q_proj, v_proj"),
    ],
)
def test_a_value_reads_as_people_write_it(
    filter_: Callable[[object], str], value: object, text: str
) -> None:
    assert filter_(value) == text


@pytest.mark.parametrize(
    "name", ["number", "filesize", "memory", "duration", "loss", "learning_rate", "percent"]
)
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_unknown_is_a_dash(name: str, value: float | None) -> None:
    assert filters.FILTERS[name](value) == "–"


def test_one_is_singular() -> None:
    assert filters.plural(1, "example") == "1 example"
    assert filters.plural(0, "match", "matches") == "0 matches"


def test_a_time_carries_its_moment_for_the_browser() -> None:
    shown = filters.ago(NOON - timedelta(minutes=6), now=NOON)
    assert "6 min ago" in shown
    assert 'datetime="2026-11-24T11:54:00.000Z"' in shown


def test_another_day_is_named() -> None:
    assert ">23 Nov 11:00<" in filters.when(NOON - timedelta(hours=25), now=NOON)


def test_what_comes_is_counted_down() -> None:
    assert filters.until(NOON + timedelta(minutes=14), now=NOON) == "in 14 min"
    assert filters.until(NOON, now=NOON) == "now"


@pytest.mark.parametrize(
    ("name", "text"), [("Mara Lindqvist", "ML"), ("priya@nordwind.example", "PE"), ("", "?")]
)
def test_initials_take_first_and_last_word(name: str, text: str) -> None:
    assert filters.initials(name) == text


def test_hostile_text_stays_text() -> None:
    assert filters.lines("<b>\nx") == "&lt;b&gt;<br>x"
