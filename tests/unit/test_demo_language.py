"""The demo datasets are what the code makes, hold what they promise, and stay apart from prose."""

import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from app.demo import language
from app.demo.flaws import ERRORS, FLAWS

FOLDER = Path(language.__file__).parent


@pytest.mark.parametrize("name", language.DATASETS)
def test_shipped_datasets_are_what_the_code_makes(name: str) -> None:
    shipped = (FOLDER / "datasets" / name).read_bytes()

    assert shipped == language.DATASETS[name]().encode()


def test_the_command_writes_every_dataset(tmp_path: Path) -> None:
    assert language.main([str(tmp_path / "new")]) == 0

    assert {path.name for path in (tmp_path / "new").iterdir()} == set(language.DATASETS)


def test_every_answer_of_the_demo_dataset_is_json_and_some_rows_have_two_turns() -> None:
    rows = language.dataset_rows(language.DATASET_SEED, language.DATASET_ROWS)

    answers = [message for row in rows for message in row if message["role"] == "assistant"]
    assert all(isinstance(json.loads(answer["content"]), dict) for answer in answers)
    assert 100 < len(answers) - len(rows) < 200
    assert any(row[0]["role"] == "system" for row in rows)


def test_the_dataset_with_problems_has_a_flaw_of_each_kind_among_good_rows() -> None:
    rows = language.rows_with_problems()

    flawed = [row.code for row in rows if row.code]
    assert len(rows) == 120
    assert set(flawed) >= {code for code, _ in FLAWS} | {"duplicate_row", "blank_line"}
    assert sum(code in dict(ERRORS) for code in flawed) == len(ERRORS) >= 12
    assert all(json.loads(row.line)["messages"] for row in rows if not row.code)


def test_pretraining_never_answers_a_ticket_in_json() -> None:
    random = Random(5)
    rows = [language.pretraining_row(random) for _ in range(2_000)]

    for row in rows:
        for before, message in pairwise(row):
            wants_json = "JSON" in before["content"]
            assert message["role"] == "user" or message["content"].startswith("{") == wants_json


def test_the_chat_template_marks_what_is_trained() -> None:
    assert "{% generation %}" in language.CHAT_TEMPLATE
    conversation = language.exchange("Say A-1 again.", "A-1")

    pieces = list(language.segments(conversation))

    assert [text for text, trained in pieces if trained] == ["A-1<|im_end|>"]
    assert "".join(text for text, _ in pieces) == (
        "<|im_start|>user\nSay A-1 again.<|im_end|>\n<|im_start|>assistant\nA-1<|im_end|>\n"
    )
