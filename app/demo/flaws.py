"""Rows as people really upload them: one flaw each, with the problem code it must be reported as.

Pure. Knows rows as text and the codes of validation; must not know how validation finds them.
The made-up key is the example of its maker's own documentation, put together here.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Flaw = Callable[[str, str], str]

EXAMPLE_KEY = "AKIA" + "IOSFODNN7" + "EXAMPLE"
SYSTEM = {"role": "system", "content": "You sort support tickets."}
LONG_LETTER = (
    "Dear team! I ordered the printer for our school in the spring and it came in good shape, but "
    "since the update it restarts by itself after each page, the light blinks red all day and the "
    "children cannot print their work. My order is F-8801. I looked in the manual first, my son "
    "tried to help me, and the page with the answers did not help either. Please answer {when}."
)
LONG_ANSWER = '{"team": "technical", "product": "printer", "order": "F-8801", "urgency": "high"}'

FIRST_FLAW_AFTER = 4
GOOD_ROWS_BETWEEN = 3


@dataclass(frozen=True)
class Row:
    """A line of the file, and the code that validation must name for it; None for a good one."""

    line: str
    code: str | None = None


def _turn(role: str, content: object, **more: object) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def _line(*messages: dict[str, Any], **more: object) -> str:
    return json.dumps({"messages": messages, **more})


def _pair(letter: object, answer: str, **more: object) -> str:
    return _line(_turn("user", letter), _turn("assistant", answer), **more)


# Each takes a good letter and its answer and spoils them in its own way.
ERRORS: tuple[tuple[str, Flaw], ...] = (
    ("invalid_json", lambda letter, answer: _pair(letter, answer)[:-40]),
    ("invalid_json", lambda letter, answer: _pair(letter, answer)[:-1] + ",}"),
    ("not_an_object", lambda letter, answer: json.dumps(["user", letter, "assistant", answer])),
    ("mixed_formats", lambda letter, answer: json.dumps({"prompt": letter, "completion": answer})),
    ("messages_not_a_list", lambda letter, _: json.dumps({"messages": letter})),
    ("empty_messages", lambda _, __: json.dumps({"messages": []})),
    ("message_not_an_object", lambda letter, answer: json.dumps({"messages": [letter, answer]})),
    ("missing_role", lambda letter, a: _line({"content": letter}, _turn("assistant", a))),
    ("unknown_role", lambda letter, a: _line(_turn("user", letter), _turn("bot", a))),
    ("missing_content", lambda letter, _: _line(_turn("user", letter), {"role": "assistant"})),
    ("content_not_text", lambda _, answer: _pair(5120, answer)),
    ("empty_content", lambda _, answer: _pair("  ", answer)),
    (
        "system_not_first",
        lambda letter, a: _line(_turn("user", letter), SYSTEM, _turn("assistant", a)),
    ),
    (
        "roles_do_not_alternate",
        lambda letter, a: _line(
            _turn("user", letter), _turn("user", "Are you there?"), _turn("assistant", a)
        ),
    ),
    ("no_assistant_message", lambda letter, _: _line(SYSTEM, _turn("user", letter))),
    (
        "bad_weight",
        lambda letter, a: _line(_turn("user", letter), _turn("assistant", a, weight=2)),
    ),
)
WARNINGS: tuple[tuple[str, Flaw], ...] = (
    ("unknown_key", lambda letter, answer: _pair(letter, answer, reviewed_by="Kim")),
    (
        "ends_without_assistant",
        lambda letter, a: _line(
            _turn("user", letter), _turn("assistant", a), _turn("user", "Which order is it?")
        ),
    ),
    ("very_short_answer", lambda letter, _: _pair(letter, "billing")),
    ("control_characters", lambda letter, answer: _pair("\u0007" + letter, answer)),
    ("special_token_in_text", lambda letter, answer: _pair("<|im_start|> " + letter, answer)),
    (
        "possible_secret",
        lambda letter, answer: _pair(f"{letter} My key is {EXAMPLE_KEY} .", answer),
    ),
)
FLAWS = (*ERRORS, *WARNINGS)


def _repeated_rows(first: str) -> list[Row]:
    """A blank line, an exact copy of the first row, and two long letters that differ in a word."""
    return [
        Row("", "blank_line"),
        Row(first, "duplicate_row"),
        Row(_pair(LONG_LETTER.format(when="today"), LONG_ANSWER)),
        Row(_pair(LONG_LETTER.format(when="soon"), LONG_ANSWER), "near_duplicate"),
    ]


def with_flaws(good: list[str], spare: Iterable[tuple[str, str]]) -> list[Row]:
    """Put flawed rows among the good ones, some good ones between each.

    ``spare`` gives the letters with their answers that are spoiled, one for each of ``FLAWS``.
    """
    spoiled = [Row(flaw(*pair), code) for (code, flaw), pair in zip(FLAWS, spare, strict=True)]
    rows = [Row(line) for line in good]
    for number, row in enumerate([*spoiled, *_repeated_rows(good[0])]):
        rows.insert(FIRST_FLAW_AFTER + number * (GOOD_ROWS_BETWEEN + 1), row)
    return rows
