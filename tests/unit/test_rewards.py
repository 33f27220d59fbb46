"""Each reward says from 0 to 1 what an answer is worth, and settings that make none are named."""

import time

import pytest

from app.runs import rewards
from app.runs.parts import Rewards


def worth(answer: str, expected: str = "", **settings: object) -> float:
    (one,) = rewards.chosen(Rewards.model_validate({"exact_match": 0, **settings}))
    return one.worth(answer, expected)


@pytest.mark.parametrize(
    "case",
    [
        ("The red car.", "red car", {"exact_match": 1}, 1.0),
        ("blue car", "red car", {"exact_match": 1}, 0.0),
        ("blue car", "red car", {"token_f1": 1}, 0.5),
        ("order 4711", "", {"regex": 1, "pattern": r"\d{4}"}, 1.0),
        ("order 47", "", {"regex": 1, "pattern": r"\d{4}"}, 0.0),
        ('{"a": 1}', "", {"json_schema": 1, "schema_text": '{"required": ["a"]}'}, 1.0),
        ('{"b": 1}', "", {"json_schema": 1, "schema_text": '{"required": ["a"]}'}, 0.0),
        ("no JSON", "", {"json_schema": 1, "schema_text": "{}"}, 0.0),
        ("[" * 100_000, "", {"json_schema": 1, "schema_text": "{}"}, 0.0),
        ("one two three", "", {"length": 1, "fewest_words": 2, "most_words": 4}, 1.0),
        ("one", "", {"length": 1, "fewest_words": 2, "most_words": 4}, 0.5),
        ("w " * 6, "", {"length": 1, "most_words": 4}, 0.5),
        ("w " * 60, "", {"length": 1, "most_words": 4}, 0.0),
    ],
)
def test_an_answer_is_worth(case: tuple[str, str, dict[str, object], float]) -> None:
    answer, expected, settings, value = case
    assert worth(answer, expected, **settings) == pytest.approx(value)


def test_an_expression_that_takes_for_ever_is_worth_nothing() -> None:
    began = time.monotonic()
    assert worth("a" * 40 + "!", regex=1, pattern="(a|a)+$") == 0.0
    assert time.monotonic() - began < 10 * rewards.SECONDS


def test_a_schema_reaches_no_network() -> None:
    schema = '{"$ref": "http://localhost:1/schema.json"}'
    assert worth("{}", json_schema=1, schema_text=schema) == 0.0


def test_only_functions_with_a_weight_are_asked() -> None:
    found = rewards.chosen(Rewards(exact_match=2, length=0.5))
    assert [(one.name, one.weight) for one in found] == [("exact_match", 2), ("length", 0.5)]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"exact_match": 0}, "exact_match"),
        ({"regex": 1}, "pattern"),
        ({"pattern": "a"}, "regex"),
        ({"regex": 1, "pattern": "(a"}, "pattern"),
        ({"json_schema": 1}, "schema_text"),
        ({"json_schema": 1, "schema_text": "{"}, "schema_text"),
        ({"json_schema": 1, "schema_text": '{"type": "nothing"}'}, "schema_text"),
        ({"length": 1, "fewest_words": 9, "most_words": 3}, "most_words"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, object], field: str) -> None:
    found = dict(rewards.problems(Rewards.model_validate(settings)))
    assert list(found) == [field]


def test_settings_that_can_be_have_no_problem() -> None:
    settings = Rewards(regex=1, pattern="a", json_schema=1, schema_text="{}", length=1)
    assert not list(rewards.problems(settings))
