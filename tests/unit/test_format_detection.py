"""Which format a file is in, and what its columns are called."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets import formats
from app.datasets.check.excerpts import Excerpts
from app.datasets.formats import FORMATS, detect, mapped, renamed
from app.datasets.formats.base import Finding, strings
from app.datasets.formats.text import text_findings
from app.datasets.problems import Code

MESSAGES = {"messages": []}
ALPACA = {"instruction": "Add.", "output": "It is two."}
PROMPT = {"prompt": "Add.", "completion": "It is two."}
PAIR = {"prompt": "Add.", "chosen": "It is two.", "rejected": "It is three."}
SHAREGPT = {"conversations": []}


def name_of(*rows: dict[str, Any], declared: str | None = None) -> str | None:
    taken = detect(rows, declared)
    return taken.name if taken else None


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([MESSAGES], "messages"),
        ([SHAREGPT], "sharegpt"),
        ([ALPACA], "alpaca"),
        ([{"instruction": "Add."}], "alpaca"),
        ([PROMPT], "prompt_completion"),
        ([{"prompt": "Add."}], "prompt_completion"),
        ([PAIR], "preference"),
        ([{"prompt": "Add.", "chosen": "x"}], "preference"),
        ([{**PROMPT, "label": False}], "preference"),
        ([{**PROMPT, "label": "billing"}], "prompt_completion"),
        ([{**PAIR, "messages": []}], "messages"),
        ([PROMPT, ALPACA, ALPACA], "alpaca"),
        ([ALPACA, MESSAGES], "messages"),
        ([{}, {"text": "x"}, PROMPT], "prompt_completion"),
        ([{}, {"text": "x"}], None),
        ([], None),
    ],
)
def test_most_rows_decide(rows: list[dict[str, Any]], name: str | None) -> None:
    assert name_of(*rows) == name


@pytest.mark.parametrize("name", FORMATS)
def test_what_the_user_says_counts(name: str) -> None:
    assert name_of(MESSAGES, declared=name) == name


def test_a_row_in_another_format_has_this_one_fault() -> None:
    (finding,) = formats.findings(PROMPT, FORMATS["alpaca"])

    assert finding.code is Code.MIXED_FORMATS
    assert finding.message == (
        "the row is in the format prompt and completion, "
        "the file in Alpaca (instruction, input and output)"
    )


@pytest.mark.parametrize(
    ("row", "taken", "code"),
    [
        ({"prompt": "Add."}, "preference", Code.MISSING_COLUMN),
        ({"prompt": "Add."}, "alpaca", Code.MISSING_COLUMN),
        ({"prompt": "Add."}, "messages", Code.MISSING_MESSAGES),
        ({"instruction": "Add."}, "sharegpt", Code.MISSING_MESSAGES),
    ],
)
def test_half_a_row_of_another_format_lacks_what_the_file_s_has(
    row: dict[str, Any], taken: str, code: Code
) -> None:
    assert code in {finding.code for finding in formats.findings(row, FORMATS[taken])}


def test_rows_of_no_format_are_told_with_the_columns_that_there_are() -> None:
    (finding, *_) = formats.findings({"question": 1, "reply": 2}, None)

    assert finding.code is Code.MISSING_MESSAGES
    assert finding.message == 'the row has no messages; it has "question", "reply"'


@pytest.mark.parametrize(
    ("row", "mapping", "expected"),
    [
        ({"a": 1, "b": 2}, None, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"output": "a"}, {"output": 1, "b": 2}),
        ({"a": 1, "output": 2}, {"output": "a"}, {"output": 1}),
        ({"output": 2}, {"output": "a"}, {}),
        (
            {"input": 1, "output": 2},
            {"input": "output", "output": "input"},
            {"input": 2, "output": 1},
        ),
        ({"a": 1}, {"prompt": "a", "completion": "a"}, {"prompt": 1, "completion": 1}),
    ],
)
def test_columns_get_our_names(
    row: dict[str, Any], mapping: dict[str, str] | None, expected: dict[str, Any]
) -> None:
    assert mapped(row, mapping) == expected


def test_what_is_found_is_marked_in_the_file_s_own_column() -> None:
    text = '{"id": 7, "earlier": [["Hi there", "Hello"], ["Add.", 5]], "task": "x", "reply": "y"}'
    mapping = {"history": "earlier", "instruction": "task", "output": "reply"}
    finding = Finding(Code.CONTENT_NOT_TEXT, "m", ("history", 1, 1))

    told = renamed(finding, mapping)
    excerpt, start, end = Excerpts(text, [told.path]).of(told)

    assert told.path == ("earlier", 1, 1)
    assert excerpt[start:end] == "5"


@pytest.mark.parametrize(
    ("path", "spot"),
    [
        (("conversations", 0, "from"), '"from": "human"'),
        (("conversations", 1), '{"value": "x"}'),
        (("conversations", 1, "from"), '{"value": "x"}'),
        (("chosen", 0, "content", 1), "5"),
        (("nowhere",), ""),
    ],
)
def test_nested_places_are_found_or_what_holds_them(path: tuple[str | int, ...], spot: str) -> None:
    text = (
        '{"conversations": [{"from": "human"}, {"value": "x"}], "chosen": [{"content": ["a", 5]}]}'
    )

    excerpts = Excerpts(text, [path, ("conversations", 1, "value")])
    excerpt, start, end = excerpts.of(Finding(Code.MISSING_ROLE, "m", path))

    assert excerpt[start:end] == spot


KEYS = st.sampled_from(
    [
        *["messages", "conversations", "conversation", "role", "content", "from", "value"],
        *["prompt", "completion", "chosen", "rejected", "label", "instruction", "input", "output"],
        *["system", "history", "weight", "tool_calls", "function_call", "type", "text", "tools"],
        *["name", "other"],
    ]
)
WORDS = st.sampled_from(
    [
        "user",
        "assistant",
        "system",
        "tool",
        "human",
        "gpt",
        "function_call",
        "true",
        "text",
        "",
        " ",
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**4000),
    st.floats(allow_nan=False),
    WORDS,
    st.text(max_size=4),
    st.just('{"name": "f"}'),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS | st.text(max_size=3), VALUES, max_size=6))
def test_no_row_makes_a_format_crash(row: dict[str, Any]) -> None:
    detect([row])
    for taken in FORMATS.values():
        for finding in formats.findings(row, taken):
            assert finding.message
        list(text_findings(row))
        said = taken.conversation(row)
        assert said is None or all(turn["role"] for turn in said)
        assert all(type(turn.text) is str for turn in taken.turns(row))


def test_strings_come_in_their_order_with_their_places() -> None:
    value = {"a": "1", "b": [["2", {"c": "3"}], "4", 5], "d": {}, "e": "6"}

    assert list(strings(value)) == [
        (("a",), "1"),
        (("b", 0, 0), "2"),
        (("b", 0, 1, "c"), "3"),
        (("b", 1), "4"),
        (("e",), "6"),
    ]
    assert list(strings(["1", ["2"]], ("x", 3))) == [(("x", 3, 0), "1"), (("x", 3, 1, 0), "2")]
    assert list(strings("1", ("x",))) == [(("x",), "1")]


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("deep", [nested(5_000), 10**5_000], ids=["depth", "number"])
def test_no_depth_and_no_number_makes_a_format_crash(name: str, deep: Any) -> None:
    for column in [*(column.name for column in FORMATS[name].columns), "other"]:
        for row in (
            {column: deep},
            {column: [{"role": "user", "content": deep, "tool_calls": deep}]},
        ):
            assert isinstance(list(formats.findings(row, FORMATS[name])), list)
            assert isinstance(list(text_findings(row)), list)
            assert isinstance(FORMATS[name].turns(row), list)
            assert isinstance(FORMATS[name].conversation(row), list | None)
