"""The new-run form shows a value so that reading it back gives the same value."""

import pytest

from app.runs.spec import RunConfig
from web.pages.run_fields import FIELDS, changes, parsed, shown, value_at


@pytest.mark.parametrize("path", FIELDS)
def test_a_default_reads_back_as_it_was_shown(path: str) -> None:
    value = value_at(RunConfig().model_dump(mode="json"), path)

    assert parsed(FIELDS[path], shown(FIELDS[path], value)) == value


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("training.learning_rate", "6.4e-3", 0.0064),
        ("training.warmup_ratio", "3", 0.03),
        ("training.max_length", "2,048", 2048),
        ("training.max_steps", "", None),
        ("training.epochs", "two", "two"),
        ("training.packing", "true", True),
    ],
)
def test_a_text_means_what_people_mean(path: str, text: str, value: object) -> None:
    assert parsed(FIELDS[path], text) == value


def test_a_field_is_changed_only_if_it_differs_from_what_the_preset_had_shown() -> None:
    base = {"training.epochs": "4", "adapter.rank": "16"}

    assert changes({"training.epochs": "4", "adapter.rank": "32"}, base) == {"adapter.rank": 32}
