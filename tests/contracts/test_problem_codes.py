"""Every code of validation: a row that raises it, one near it that does not, a line in the docs."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.datasets.problems import CATALOGUE, Code, Severity
from app.datasets.terminal import check_stream
from tests.fixtures.builders import conversation
from tests.unit.test_outliers import ENGLISH, GERMAN, TRANSLATION, told
from tests.unit.test_validation_cases import (
    ANSWER,
    CALL,
    GOOD,
    RAISES,
    SIXTY,
    SYSTEM,
    TOOL,
    USER,
    answered,
    line,
    lines,
    said,
)
from worker.trainer.report import summarised
from worker.trainer.tokensets import TokenSet

DOCS = Path("docs/problems.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)
EXAMPLES = {code: example for code, _, _, example in ROW.findall(DOCS)}

PAIR = b'{"prompt": "Add 1 and 1.", "chosen": "It is two.", "rejected": "It is three."}'
ALPACA = b'{"instruction": "Add 1 and 1.", "output": "It is two."}'

# As like what raises the code as can be, and still without it.
NEAR: dict[Code, bytes] = {
    Code.NOT_UTF8: GOOD.replace(b"parcel", "parcél 🙂".encode()),
    Code.INVALID_JSON: b" \t" + GOOD.replace(b": ", b" :\t") + b" ",
    Code.NOT_AN_OBJECT: b"{}",
    Code.UNKNOWN_FORMAT: said("PK\x03\x04 <html> \x89PNG"),
    Code.MIXED_FORMATS: lines(GOOD, b'{"prompt": "Hi"}'),
    Code.MISSING_MESSAGES: b'{"messages": null}',
    Code.MESSAGES_NOT_A_LIST: b'{"messages": []}',
    Code.EMPTY_MESSAGES: b'{"messages": [{}]}',
    Code.MESSAGE_NOT_AN_OBJECT: b'{"messages": [{}]}',
    Code.MISSING_ROLE: line({"role": "", "content": "Hi"}, ANSWER),
    Code.UNKNOWN_ROLE: line({**USER, "role": "developer"}, USER, ANSWER),
    Code.MISSING_CONTENT: line(USER, CALL, TOOL, {**ANSWER, "content": ""}),
    Code.CONTENT_NOT_TEXT: line({**USER, "content": [{"type": "text", "text": "Hi"}]}, ANSWER),
    Code.EMPTY_CONTENT: said("."),
    Code.SYSTEM_NOT_FIRST: line(SYSTEM, USER, ANSWER),
    Code.ROLES_DO_NOT_ALTERNATE: line(USER, CALL, TOOL, TOOL, ANSWER, USER),
    Code.NO_ASSISTANT_MESSAGE: line(ANSWER, USER),
    Code.BAD_WEIGHT: line(USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}),
    Code.MISSING_COLUMN: lines(ALPACA, ALPACA.replace(b"two", b"2, two")),
    Code.IDENTICAL_PAIR: PAIR,
    Code.LINE_TOO_LONG: said("a" * (16 * 2**20 - len(said("")))),
    Code.EMPTY_FILE: b"\n\n{}",
    Code.UNKNOWN_KEY: said("Hello you", metadata={"stars": 5}, tools=[], id=5),
    Code.DUPLICATE_ROW: lines(GOOD, said("Where is my  parcel?")),
    Code.NEAR_DUPLICATE: lines(said(SIXTY), said(SIXTY.replace("word", "thing"))),
    Code.ENDS_WITHOUT_ASSISTANT: line(USER, ANSWER, USER, CALL),
    Code.VERY_SHORT_ANSWER: answered("12345678"),
    Code.CONTROL_CHARACTERS: said("a\tb\r\nc\u200dd\u202e"),
    Code.SPECIAL_TOKEN_IN_TEXT: said("<|im_start <im_end> [INSTALL] <ss>"),
    Code.POSSIBLE_SECRET: said("sk-learn, AKIAIOSFODNN7, da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    Code.PERSONAL_DATA: said("info@example.com, 2024-11-25, 4111 1111 1111 1112"),
    Code.BLANK_LINE: GOOD + b"\r\n",
    Code.BOM: said("\ufeff"),
}


LONG = conversation("Where is it? " * 4000, "In box seven, below the stairs.")

# Codes that need many rows: rows unlike the rest.
OUTLIERS: dict[Code, tuple[list[Any], list[Any]]] = {
    Code.LANGUAGE_OUTLIER: ([*ENGLISH, GERMAN], [*ENGLISH, TRANSLATION]),
    Code.LENGTH_OUTLIER: ([*ENGLISH * 4, LONG], [*ENGLISH, LONG]),
}


def tokens(*rows: str, refused: int = 0) -> TokenSet:
    """Return rows as a token report sees them: a letter is a token, a capital one is learned."""
    text, numbers = "".join(rows), np.arange(len(rows), dtype=np.uint64)
    return TokenSet(
        ids=np.zeros(len(text), np.uint32),
        trained=np.array([letter.isupper() for letter in text], np.uint8),
        sizes=np.array([len(row) for row in rows], np.uint32),
        keys=numbers,
        lines=numbers + 1,
        places=numbers,
        refused=[(number, "no system turn") for number in range(refused)],
        refused_rows=refused,
        digest="",
    )


# Codes of a token report with at most four tokens a row.
OF_TOKENS: dict[Code, tuple[TokenSet, TokenSet]] = {
    Code.TOO_LONG: (tokens("qqqAA"), tokens("qqAA")),
    Code.NO_TRAINED_TOKENS: (tokens("qqqqA"), tokens("qqqAA")),
    Code.TEMPLATE_REJECTS_ROW: (tokens("", "qA", refused=1), tokens("qA", "qA")),
}


def is_raised(code: str, content: bytes) -> bool:
    deep = code == Code.NEAR_DUPLICATE  # the second stage has this one alone
    report, _ = check_stream(io.BytesIO(content), deep=deep)
    return code in report.by_code


def test_every_code_has_both_cases() -> None:
    assert set(RAISES) == set(NEAR)
    assert set(NEAR) | set(OUTLIERS) | set(OF_TOKENS) == set(Code) == set(CATALOGUE)


@pytest.mark.parametrize("code", NEAR)
def test_its_case_raises_it(code: Code) -> None:
    assert is_raised(code, RAISES[code][0])


@pytest.mark.parametrize("code", NEAR)
def test_the_case_near_it_does_not(code: Code) -> None:
    assert not is_raised(code, NEAR[code])


@pytest.mark.parametrize("code", OUTLIERS)
def test_rows_unlike_the_rest_are_told_and_others_are_not(code: Code) -> None:
    odd, even = OUTLIERS[code]

    assert code in {found for _, found in told(*odd)}
    assert code not in {found for _, found in told(*even)}


@pytest.mark.parametrize("code", OF_TOKENS)
def test_a_token_report_tells_it_or_does_not(code: Code) -> None:
    one, other = (summarised(case, max_length=4)["by_code"][code] for case in OF_TOKENS[code])

    assert (one, other) == (1, 0)


@pytest.mark.parametrize("code", Code)
def test_the_docs_say_what_it_means_and_what_to_do(code: Code) -> None:
    text = CATALOGUE[code]

    assert f"| `{code}` | {text.title} | {text.cure} | " in DOCS
    assert DOCS.index(f"| `{code}` |") > DOCS.index("## Warnings") or (
        text.severity is Severity.ERROR
    )


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_docs_example_raises_it(code: str) -> None:
    rows = re.findall(r"`(.+?)`", EXAMPLES[code].replace("\\|", "|"))
    if not rows or not EXAMPLES[code].startswith("`"):
        return  # said in words: no row could show it
    assert is_raised(code, "\n".join(rows).encode())
