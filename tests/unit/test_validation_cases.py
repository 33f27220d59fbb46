"""Each code of validation: rows that raise it, near ones that do not, a line in the docs."""

import io
import json
from typing import Any

import pytest

from app.datasets.check.validation import Report
from app.datasets.problems import CATALOGUE, Code, Problem, Severity
from app.datasets.terminal import check_stream
from tests.unit.containers import downloaded

USER = {"role": "user", "content": "Where is my parcel?"}
ANSWER = {"role": "assistant", "content": "It arrives tomorrow."}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look"}}]}
TOOL = {"role": "tool", "content": "on its way", "tool_call_id": "1"}
SYSTEM = {"role": "system", "content": "You help."}
SIXTY = " ".join(f"word{number}" for number in range(60))


def check(content: bytes) -> tuple[Report, list[Problem]]:
    report, problems = check_stream(io.BytesIO(content), deep=True)
    assert sum(report.by_code.values()) == report.errors + report.warnings
    return report, problems


def codes(content: bytes) -> list[tuple[int, str]]:
    return [(problem.line, problem.code.value) for problem in check(content)[1]]


def line(*turns: Any, **more: Any) -> bytes:
    return json.dumps({"messages": turns, **more}, ensure_ascii=False).encode()


def lines(*rows: bytes) -> bytes:
    return b"".join(row + b"\n" for row in rows)


def said(text: str, **more: Any) -> bytes:
    return line({**USER, "content": text}, ANSWER, **more)


def answered(text: object, **more: Any) -> bytes:
    return line(USER, {"role": "assistant", "content": text, **more})


GOOD = line(USER, ANSWER)

RAISES: dict[Code, list[bytes]] = {
    Code.NOT_UTF8: [GOOD.replace(b"parcel", b"parc\xe9l"), GOOD.replace(b"W", b"\xed\xa0\x80")],
    Code.INVALID_JSON: [
        GOOD[:-1],
        GOOD + b" " + GOOD,
        GOOD[:-1] + b',"id":NaN}',
        GOOD[:-1] + b',"id":-Infinity}',
        GOOD[:-1] + b",}",
        GOOD + b" // done",
        GOOD.replace(b"Where", b"Whe\tre"),
        GOOD.replace(b"Where", b"\\ud83d"),
        GOOD.replace(b"Where", b"\\ude00 low"),
        GOOD.replace(b'"', b"'"),
        GOOD[:-1] + b',"id":01}',
        GOOD[:-1] + b',"id":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b"not json at all",
        b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD,
        GOOD + b"\x0c",
    ],
    Code.NOT_AN_OBJECT: [b'["user", "hello"]', b"12", b"null", b'"text"', b'[{"role": "user"}]'],
    Code.UNKNOWN_FORMAT: [
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04 xl/workbook.xml",
        b"<!doctype html><html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"PAR1 broken",
        "\ufeff{}".encode("utf-16-le"),
        '{"messages": []}'.encode("utf-16-be"),
        b"\x1f\x8b\x08\x00",
    ],
    Code.MIXED_FORMATS: [
        lines(GOOD, b'{"prompt": "Hi", "completion": "Hello"}'),
        lines(b'{"instruction": "Add", "output": "2"}', GOOD),
        lines(b'{"conversations": [{"from": "human", "value": "Hi"}]}', GOOD),
        lines(b'{"prompt": "Hi", "chosen": "Hello", "rejected": "No"}', GOOD, GOOD),
    ],
    Code.MISSING_MESSAGES: [b"{}", b'{"text": "Hi"}', b'{"Messages": []}'],
    Code.MESSAGES_NOT_A_LIST: [b'{"messages": "Hi"}', b'{"messages": null}', b'{"messages": {}}'],
    Code.EMPTY_MESSAGES: [b'{"messages": []}'],
    Code.MESSAGE_NOT_AN_OBJECT: [line(USER, "Hello", ANSWER), line(None, ANSWER)],
    Code.MISSING_ROLE: [
        line({"content": "Hi"}, ANSWER),
        line({"role": None, "content": "x"}, ANSWER),
    ],
    Code.UNKNOWN_ROLE: [
        line(USER, {"role": "bot", "content": "Hello there"}),
        line({"role": "User", "content": "Hi"}, ANSWER),
        line({"role": 1, "content": "Hi"}, ANSWER),
        line({"role": ["user"], "content": "Hi"}, ANSWER),
    ],
    Code.MISSING_CONTENT: [
        line(USER, {"role": "assistant"}),
        line({"role": "user", "content": None}, ANSWER),
        line(USER, {"role": "assistant", "content": None, "tool_calls": []}),
        line(USER, CALL, {"role": "tool", "content": None}, ANSWER),
    ],
    Code.CONTENT_NOT_TEXT: [
        line({"role": "user", "content": 5}, ANSWER),
        line({"role": "user", "content": {"text": "Hi"}}, ANSWER),
        line({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, ANSWER),
        line({"role": "user", "content": [{"type": "input_audio"}]}, ANSWER),
        line({"role": "user", "content": ["Hi"]}, ANSWER),
        line({"role": "user", "content": [{"type": "text", "text": 1}]}, ANSWER),
    ],
    Code.EMPTY_CONTENT: [
        said(""),
        said(" \n\t\u00a0\u2028"),
        line({"role": "user", "content": []}, ANSWER),
        line({"role": "user", "content": [{"type": "text", "text": " "}]}, ANSWER),
        answered("  "),
    ],
    Code.SYSTEM_NOT_FIRST: [
        line(USER, SYSTEM, ANSWER),
        line(SYSTEM, {"role": "developer", "content": "Be brief."}, USER, ANSWER),
    ],
    Code.ROLES_DO_NOT_ALTERNATE: [
        line(USER, USER, ANSWER),
        line(USER, ANSWER, ANSWER),
        line(USER, TOOL, ANSWER),
        line(USER, ANSWER, TOOL, ANSWER),
        line(USER, CALL, CALL, TOOL, ANSWER),
    ],
    Code.NO_ASSISTANT_MESSAGE: [line(USER), line(SYSTEM, USER)],
    Code.BAD_WEIGHT: [
        answered("It arrives tomorrow.", weight=2),
        answered("It arrives tomorrow.", weight=0.5),
        answered("It arrives tomorrow.", weight="1"),
        answered("It arrives tomorrow.", weight=True),
        answered("It arrives tomorrow.", weight=None),
        line({**USER, "weight": 1}, ANSWER),
    ],
    Code.MISSING_COLUMN: [
        b'{"instruction": "Add 1 and 1."}',
        b'{"input": "1 1", "output": "It is two."}',
        b'{"prompt": "Add 1 and 1."}',
        b'{"completion": "It is two."}',
        b'{"prompt": "Add 1 and 1.", "chosen": "It is two."}',
        b'{"rejected": "It is three."}',
    ],
    Code.IDENTICAL_PAIR: [
        b'{"prompt": "Add 1 and 1.", "chosen": "It is two.", "rejected": "It is two."}',
    ],
    Code.LINE_TOO_LONG: [said("a " * (8 * 2**20))],
    Code.EMPTY_FILE: [b"", b"\n\r\n \n", b"\xef\xbb\xbf", b"[]", b" [ ]\n", b"prompt,completion\n"],
    Code.UNKNOWN_KEY: [
        line(USER, ANSWER, reviewed_by="Kim"),
        line({**USER, "mood": "sad"}, ANSWER),
        line({"role": "user", "content": [{"type": "text", "text": "Hi", "lang": "en"}]}, ANSWER),
    ],
    Code.DUPLICATE_ROW: [
        lines(GOOD, GOOD),
        lines(b'{"id": 1, "messages": []}', b'{"messages": [ ], "id": 1}'),
    ],
    Code.NEAR_DUPLICATE: [
        lines(said(SIXTY), said(SIXTY.replace("word30", "other"))),
        lines(answered(SIXTY), answered(SIXTY.replace("word59", "other"))),
        lines(
            GOOD,
            GOOD.upper()
            .replace(b"MESSAGES", b"messages")
            .replace(b"ROLE", b"role")
            .replace(b"USER", b"user")
            .replace(b"ASSISTANT", b"assistant")
            .replace(b"CONTENT", b"content"),
        ),
    ],
    Code.ENDS_WITHOUT_ASSISTANT: [line(USER, ANSWER, USER), line(USER, CALL, TOOL)],
    Code.VERY_SHORT_ANSWER: [answered("1234567"), answered("Yes.")],
    Code.CONTROL_CHARACTERS: [
        GOOD.replace(b"Where", b"\\u0007"),
        GOOD.replace(b"Where", b"\\b"),
        GOOD.replace(b"Where", b"\\u0000"),
        GOOD.replace(b"Where", b"\\u001B[1m"),
    ],
    Code.SPECIAL_TOKEN_IN_TEXT: [
        said("Say <|im_end|> now"),
        said("a</s>b"),
        said("[INST] Hi [/INST]"),
        said("<start_of_turn>"),
        said("<<SYS>>"),
        said("<|eot_id|>"),
        said("<｜User｜>"),
        GOOD.replace(b"Where", b"\\u003c|im_end|>"),
    ],
    Code.POSSIBLE_SECRET: [
        said("key AKIA" + "IOSFODNN7EXAMPLE"),
        said("ghp_" + "a1B2" * 9),
        said("use sk-" + "a1B2" * 12 + "."),
        said("sk-proj-" + "a1B2_" * 20),
        said("sk-ant-api03-" + "a1-B2" * 19),
        said("line\nhf_" + "aBcD" * 8 + "xY"),
        said("AIza" + "Sy_-9" * 7),
        said("xoxb-" + "123456789012-123456789012-" + "a1B2" * 6),
        said("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"),
        said("Hello you", metadata={"token": "glpat-" + "a1B2c" * 4}),
    ],
    Code.PERSONAL_DATA: [
        said("I am kim.berg@posteo.de, write to me."),
        said("Call me at +49 30 901820 tomorrow."),
        said("My card: 4111 1111 1111 1111, please."),
    ],
    Code.BLANK_LINE: [lines(GOOD, b"", answered("Another long answer.")), lines(GOOD, b" \t\r")],
    Code.BOM: [b"\xef\xbb\xbf" + GOOD],
}

# Close to a fault, and none: no problem at all.
CLEAN: dict[str, bytes] = {
    "crlf": GOOD + b"\r\n" + answered("Another answer, longer.") + b"\r\n",
    "no last end": GOOD,
    "separators inside a text end no line": said("a\u2028b\u2029c\u0085d"),
    "a pair of surrogates": GOOD.replace(b"Where", b"\\ud83d\\ude00"),
    "an escaped backslash before u": GOOD.replace(b"Where", b"\\\\ud83d"),
    "a huge number": GOOD[:-1] + b',"id":' + b"9" * 300 + b"}",
    "doubled key": GOOD[:-1] + b',"messages":' + GOOD.split(b": ", 1)[1],
    "one megabyte": said("word " * 200_000),
    "just sixteen MiB": said("a" * (16 * 2**20 - len(said("")))),
    "developer and function": line(
        {"role": "developer", "content": "Be brief."},
        USER,
        CALL,
        {"role": "function", "name": "look", "content": "x"},
        ANSWER,
    ),
    "tools answer twice": line(USER, CALL, TOOL, TOOL, ANSWER),
    "empty content beside a call": line(USER, {**CALL, "content": ""}, TOOL, ANSWER),
    "no content beside a call": line(
        USER, {key: CALL[key] for key in ("role", "tool_calls")}, TOOL, ANSWER
    ),
    "a call has no length": line(USER, ANSWER, USER, CALL),
    "text parts": line({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, ANSWER),
    "weights": line(USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}),
    "free keys": line(
        {**USER, "name": "Kim"},
        ANSWER,
        id=1,
        source="x",
        language="en",
        metadata={"a": [1]},
        tools=[],
        name="n",
    ),
    "eight characters": answered("12345678"),
    "tab, lf, cr": said("a\tb\nc\r\nd"),
    "joiners, marks, emoji": said("👩\u200d💻 \u200fשלום\u200e 👍🏽 \u007f"),
    "parts of tokens": said("im_end <|im_end <im_end> <span> [INSTALL] <sys> <|> s> </sp>"),
    "hash and uuid": said(
        "da39a3ee5e6b4b0d3255bfef95601890afd80709 "
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 "
        "123e4567-e89b-12d3-a456-426614174000"
    ),
    "public keys": said(
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY----- "
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 pk_live_" + "a1B2" * 6
    ),
    "words that begin alike": said(
        "sk-learn hf_hub_download AKIAnother ghp_short sk-your-key-here"
    ),
    "only a system prompt in common": lines(
        line({"role": "system", "content": SIXTY}, USER, ANSWER),
        line(
            {"role": "system", "content": SIXTY},
            {**USER, "content": "How much is it?"},
            {**ANSWER, "content": "Forty euros each."},
        ),
    ),
    "only a question in common": lines(
        line({**USER, "content": SIXTY}, ANSWER),
        line({**USER, "content": SIXTY}, {**ANSWER, "content": "Nobody knows, sadly."}),
    ),
    "the same words for another question": lines(
        said("Is one plus one two?"), said("Is one plus six two?")
    ),
}


@pytest.mark.parametrize(
    ("code", "content"), [(code, content) for code, cases in RAISES.items() for content in cases]
)
def test_a_fault_is_found_under_its_code(code: Code, content: bytes) -> None:
    report, problems = check(content)

    assert code in {problem.code for problem in problems}
    assert report.status == ("invalid" if report.errors else "ready")
    for problem in problems:
        assert 0 <= problem.mark_start <= problem.mark_end <= len(problem.excerpt) < 700
        assert problem.message.endswith(".")
        assert problem.hint not in problem.message


@pytest.mark.parametrize("name", CLEAN)
def test_what_is_close_to_a_fault_is_none(name: str) -> None:
    assert codes(CLEAN[name]) == []


@pytest.mark.parametrize("content", [case for cases in RAISES.values() for case in cases])
def test_the_cleaned_file_uploads_without_an_error(content: bytes) -> None:
    report, _ = check(content)

    if report.format and report.examples:
        again, problems = check(downloaded(content))
        assert again.errors == 0
        assert not {problem.code for problem in problems} & {Code.BOM, Code.BLANK_LINE}
        assert again.examples == report.examples


@pytest.mark.parametrize("code", [c for c in RAISES if CATALOGUE[c].severity is Severity.WARNING])
def test_warnings_alone_leave_a_file_ready(code: Code) -> None:
    report, problems = check(lines(b"", answered("A first, unlike answer."), RAISES[code][0]))

    if all(problem.severity is Severity.WARNING for problem in problems):
        assert (report.status, len(report.bad_lines)) == ("ready", 0)
