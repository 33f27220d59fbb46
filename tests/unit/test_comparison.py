"""Differences between runs are paired, have an interval, and claim no more than they can."""

import math
from dataclasses import replace

import pytest

from app.runs.comparison import (
    Difference,
    Item,
    Measured,
    Subject,
    compare,
)
from app.runs.paired import detectable, difference_of_shares, mcnemar
from app.runs.spec import DatasetRef, Preset, RunConfig, RunSpec


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


def subject(run_id: str, scores: list[float]) -> Subject:
    items = [
        Item(n, [{"role": "user", "content": f"{n}?"}], "x", "", "", {"f1": 0.0}, {"f1": score})
        for n, score in enumerate(scores)
    ]
    report = {
        "f1": {"tuned": {"value": 0.5}, "difference": {}, "n": len(items), "better": "higher"}
    }
    spec = RunSpec(
        name=run_id,
        dataset=DatasetRef(id="ds", version=1),
        base_model="mdl",
        preset=Preset.QUICK,
        config=RunConfig(),
    )
    return Subject(
        run_id,
        1,
        run_id,
        "succeeded",
        "d v1",
        "m",
        spec,
        10,
        {},
        [Measured("heldout", report, items)],
    )


@pytest.mark.parametrize(("n", "test"), [(20, "bootstrap"), (200, "normal")])
def test_scores_that_are_no_yes_or_no_are_compared_by_their_mean(n: int, test: str) -> None:
    better = [0.5 + 0.01 * (place % 7) for place in range(n)]
    worse = [0.4 + 0.01 * (place % 5) for place in range(n)]
    found = compare([subject("a", better), subject("b", worse)]).evaluations[0]
    between = next(pair for pair in found.paired if (pair.a, pair.b) == ("a", "b"))
    assert between.test == test
    assert between.low < between.difference < between.high < 0
    assert between.is_clear


def test_equal_questions_are_matched_by_their_turn() -> None:
    twice = subject("a", [0.1, 0.9])
    same = [replace(item, prompt=[]) for item in twice.measured[0].items]
    runs = [
        replace(twice, id=name, measured=[replace(twice.measured[0], items=same)]) for name in "ab"
    ]
    between = compare(runs).evaluations[0].paired[-1]
    assert (between.n, between.difference) == (2, 0.0)


def test_runs_of_other_rows_are_said_to_be() -> None:
    one = subject("a", [1.0])
    split = RunConfig.model_validate({"data": {"split": "spl_a"}})
    held_out = replace(one, id="b", spec=one.spec.model_copy(update={"config": split}))
    newer = replace(one, id="c", dataset="d v2")

    assert "different splits" in " ".join(compare([one, held_out]).notes)
    assert "different rows" in " ".join(compare([one, newer]).notes)
    assert "different" not in " ".join(compare([one, replace(one, id="d")]).notes)
