"""Each format: good rows and their conversation, and every fault under its code."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.datasets import formats
from app.datasets.formats import FORMATS
from app.datasets.formats.base import Finding
from app.datasets.formats.wording import tools_of
from app.datasets.problems import Code
from tests.unit.format_cases import (
    ALPACA,
    ANSWER,
    ASKED,
    FAULTS,
    GOOD,
    GPT,
    HUMAN,
    LABELLED,
    PAIR,
    TOLD,
    USER,
    turns,
)


def found(name: str, row: Mapping[str, Any]) -> list[Finding]:
    return list(FORMATS[name].findings(row))


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in GOOD.items() for case in cases]
)
def test_a_good_row_has_no_fault_and_its_conversation(name: str, case: str) -> None:
    row, conversation = GOOD[name][case]
    taken = FORMATS[name]

    assert list(taken.findings(row)) == []
    assert taken.recognises(row)
    assert taken.is_whole(row)
    assert formats.recognised(row) is taken
    assert taken.conversation(row) == conversation
    if conversation is not None:
        assert [turn.role for turn in taken.turns(row)] == [turn["role"] for turn in conversation]


@pytest.mark.parametrize(
    ("name", "code", "row"),
    [
        (name, code, row)
        for name, codes in FAULTS.items()
        for code, rows in codes.items()
        for row in rows
    ],
)
def test_a_fault_has_its_code(name: str, code: Code, row: dict[str, Any]) -> None:
    assert code in {finding.code for finding in found(name, row)}
    FORMATS[name].turns(row)
    FORMATS[name].conversation(row)


def test_every_fault_of_a_row_is_found_in_its_order() -> None:
    row = {
        "history": [["", 5]],
        "instruction": None,
        "output": "Two.",
        "stars": 5,
    }

    assert [finding.code for finding in found("alpaca", row)] == [
        Code.EMPTY_CONTENT,
        Code.CONTENT_NOT_TEXT,
        Code.MISSING_CONTENT,
        Code.VERY_SHORT_ANSWER,
        Code.UNKNOWN_KEY,
    ]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("messages", {"text": 1}, 'the row has no messages; it has "text"'),
        ("alpaca", {"instruction": "x" * 20}, 'the row has no output; it has "instruction"'),
        ("alpaca", {**ALPACA, "output": 2}, "the output is 2, not text"),
        (
            "alpaca",
            {**ALPACA, "history": [["Hello there!", ""]]},
            "the answer of round 1 of the history is empty",
        ),
        ("alpaca", {**ALPACA, "history": [1]}, "round 1 of the history is 1, not a pair"),
        (
            "sharegpt",
            turns({**HUMAN, "from": "Human"}, GPT),
            'the role of turn 1 is "Human", perhaps human',
        ),
        ("sharegpt", turns(HUMAN, HUMAN, GPT), "turns 1 and 2 are both the user's"),
        (
            "preference",
            {**PAIR, "rejected": [TOLD, TOLD]},
            "turn 1 of rejected and turn 2 of rejected are both the assistant's",
        ),
        ("preference", {**LABELLED, "label": 5}, "the label is 5, neither true nor false"),
        (
            "prompt_completion",
            {"prompt": [USER, TOLD], "completion": [USER]},
            "no turn of completion is the assistant's",
        ),
    ],
)
def test_a_message_names_the_place(name: str, row: dict[str, Any], message: str) -> None:
    assert message in [finding.message for finding in found(name, row)]


def test_the_turns_of_a_pair_are_the_prompt_and_both_answers() -> None:
    worse = {**TOLD, "content": "It is three."}
    as_texts = FORMATS["preference"].turns(PAIR)

    assert [(turn.role, turn.text) for turn in as_texts] == [
        ("user", ASKED),
        ("assistant", ANSWER),
        ("assistant", "It is three."),
    ]
    for row in (
        {"chosen": [USER, TOLD], "rejected": [USER, worse]},
        {"prompt": [USER], "chosen": [TOLD], "rejected": [worse]},
        {"prompt": ASKED, "chosen": [USER, TOLD], "rejected": [USER, worse]},
    ):
        assert FORMATS["preference"].turns(row) == as_texts


ROW = re.compile(r"^\| `(\w+)` \| `(.+?)` \| (.+) \|$", re.MULTILINE)
DOCUMENTED = ROW.findall(Path("docs/datasets.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "row", "becomes"), DOCUMENTED)
def test_the_docs_rows_become_what_they_say(name: str, row: str, becomes: str) -> None:
    taken, value = FORMATS[name], json.loads(row)

    assert formats.recognised(value) is taken
    assert {finding.code for finding in taken.findings(value)} <= {Code.VERY_SHORT_ANSWER}
    said = json.loads(becomes.strip("`")) if becomes.startswith("`") else None
    assert taken.conversation(value) == said


def test_the_docs_show_every_format() -> None:
    assert {name for name, _, _ in DOCUMENTED} == set(FORMATS)


ADD = {"name": "add", "parameters": {}}
TOOL = {"type": "function", "function": ADD}


@pytest.mark.parametrize(
    ("row", "tools"),
    [
        ({"tools": [TOOL]}, [TOOL]),
        ({"tools": json.dumps([TOOL])}, [TOOL]),
        ({"tools": [ADD]}, [TOOL]),
        ({"functions": [ADD]}, [TOOL]),
        ({"tools": "add and subtract"}, None),
        ({"tools": "[5]"}, None),
        ({"tools": {"add": 1}}, None),
        ({"tools": []}, None),
        ({"tools": None}, None),
        ({}, None),
    ],
)
def test_tools_are_read_as_they_are_written(row: dict[str, Any], tools: list[Any] | None) -> None:
    assert tools_of(row) == tools
