"""Scores agree with the field's own, and intervals are honest at the edges."""

import random

import pytest

from app.evaluations import scoring, significance


@pytest.mark.parametrize(
    ("answer", "expected", "exact", "f1"),
    [
        ("The Cat!", "cat", 1.0, 1.0),
        ("a black cat", "the cat", 0.0, 2 / 3),
        ("", "", 1.0, 1.0),
        ("", "cat", 0.0, 0.0),
        ("dog", "cat", 0.0, 0.0),
    ],
)
def test_squads_normalisation(answer: str, expected: str, exact: float, f1: float) -> None:
    assert scoring.exact_match(answer, expected) == exact
    assert scoring.token_f1(answer, expected) == pytest.approx(f1)


def test_rouge_l_is_what_rouge_score_gives() -> None:
    rouge = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    chance = random.Random(0)
    words = ["Red", "cat,", "dog", "it's", "42", "über", "the"]
    for _ in range(200):
        one, other = (" ".join(chance.choices(words, k=chance.randint(0, 9))) for _ in range(2))
        wanted = rouge.score(other, one)["rougeL"].fmeasure
        assert scoring.rouge_l(one, other) == pytest.approx(wanted), (one, other)


def test_a_share_of_all_is_not_claimed_to_be_certain() -> None:
    all_right = significance.mean([1.0] * 20)
    assert (all_right.value, all_right.high) == (1.0, 1.0)
    assert 0.8 < all_right.low < 0.9


def test_the_interval_of_a_mean_covers_it_nineteen_times_of_twenty() -> None:
    chance = random.Random(1)
    hits = 0
    for _ in range(60):
        found = significance.mean([chance.gauss(3, 1) for _ in range(40)])
        hits += found.low <= 3 <= found.high
    assert 51 <= hits <= 60


def test_pairs_show_a_difference_that_their_intervals_alone_would_hide() -> None:
    chance = random.Random(2)
    base = [chance.gauss(0, 5) for _ in range(50)]
    tuned = [value + chance.gauss(0.5, 0.2) for value in base]
    assert significance.mean(tuned).low < significance.mean(base).high
    assert significance.mean_difference(base, tuned).low > 0


def test_a_ratio_weighs_items_by_their_tokens() -> None:
    found = significance.ratio([10.0, 1.0], [10.0, 1.0])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert significance.ratio([10.0, 4.0], [10.0, 1.0]).value == pytest.approx(14 / 11)


def test_the_same_items_give_the_same_interval() -> None:
    values = [0.1, 0.7, 0.4, 0.9]
    assert significance.mean(values) == significance.mean(values)
