"""The quick look says what the full look says, the parts of a file what the whole says."""

import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.datasets.check import parallel
from app.datasets.check.checking import Checker, Part, Setup
from app.datasets.check.glance import Glancing, hash_of
from app.datasets.check.lines import View
from app.datasets.check.signs import rows_with_signs
from app.datasets.check.validation import Report, validate
from app.datasets.formats.base import Findings
from app.datasets.formats.secrets import FORMS, find_secrets
from app.datasets.formats.text import TOKENS
from app.datasets.problems import DETAIL_PER_CODE, Code, Problem
from tests.unit.test_validation_cases import ANSWER, CALL, GOOD, RAISES, SYSTEM, TOOL, USER, line

NASTY = [
    *TOKENS,
    "<|reserved_special_token_12|>",
    "ghp_" + "a1B2" * 9,
    "xoxb-123456789012-123456789012-" + "a1B2" * 6,
    "-----BEGIN RSA PRIVATE KEY----- ab -----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ",
    "kim.lee@firm-name.de",
    "+49 (30) 901820-12",
    "+44 20 7946 0958",
    "(212) 867-5309",
    "4111 1111 1111 1111",
    "card 4242424242424242",
    "a\\frac{1}{2} \\beta \\u0007",
    "\x07\x1b[1m\b\f",
    "٤١١١ 1111",
    "words, words",
    "\u2028\u00a0\ufeff 😀 é <b> [x] </s",
    "",
    " \n",
]


@st.composite
def texts(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.sampled_from(NASTY) | st.text(max_size=8), max_size=4))
    return draw(st.sampled_from(["", " ", "\n", "x"])).join(parts)


@st.composite
def rows(draw: st.DrawFn) -> bytes:
    """Return a line: a row as JSON may spell it, a known fault, or that with some bytes changed."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        cases = [case for found in RAISES.values() for case in found if len(case) < 2000]
        data = bytearray(draw(st.sampled_from(cases)).split(b"\n")[0])
        for _ in range(draw(st.integers(0, 3))):
            data[draw(st.integers(0, len(data))) :][:1] = draw(st.binary(max_size=2))
        return bytes(data)
    roles = ["user", "assistant"] * draw(st.integers(1, 2))
    if draw(st.booleans()):
        roles.insert(0, draw(st.sampled_from(["system", "developer", "user", "bot", "tool"])))
    turns: list[Any] = [{"role": role, "content": draw(texts())} for role in roles]
    if kind == 1:
        turns.insert(draw(st.integers(0, 2)), draw(st.sampled_from([CALL, TOOL, SYSTEM, "x", {}])))
    if kind == 2:
        turns[-1]["weight"] = draw(st.sampled_from([0, 1, 2, True]))
    more = draw(st.sampled_from([{}, {}, {}, {"id": 1}, {"metadata": {"a": draw(texts())}}]))
    written = json.dumps({"messages": turns, **more}, ensure_ascii=draw(st.booleans()))
    return _spelt(draw, written).replace("\n", " ").encode()


def _spelt(draw: st.DrawFn, written: str) -> str:
    """Spell some characters of a JSON text in the other ways that JSON has."""
    if draw(st.booleans()):
        return written
    ways = {"/": "\\/", "<": "\\u003c", "-": "\\u002D", "1": "\\u0031", "|": "\\u007c"}
    for char in draw(st.lists(st.sampled_from(sorted(ways)), max_size=2)):
        written = written.replace(char, ways[char])
    return written


def part_of(data: bytes, *, thorough: bool = False) -> Part:
    """Return what is found; ``thorough`` looks at every row and its text in full."""
    checker = Checker(Setup(format="messages", mapping=None, converted=False))
    if thorough:
        checker._can_glance = False
        checker._signs = lambda block, starts: frozenset(range(len(starts)))
    checker.take(View(0, memoryview(data), len(data)))
    return checker.part()


@settings(max_examples=400, deadline=None)
@given(st.lists(rows(), min_size=1, max_size=5), st.sampled_from([b"\n", b"\r\n"]))
@example([GOOD, b"", GOOD.replace(b"Where", b"\\\\\\u0007")], b"\n")
def test_the_quick_look_says_what_the_full_look_says(lines: list[bytes], ending: bytes) -> None:
    data = b"".join(row + ending for row in lines)

    quick, full = part_of(data), part_of(data, thorough=True)

    assert quick.problems == full.problems
    assert (quick.records, quick.by_code, quick.lines) == (full.records, full.by_code, full.lines)
    assert quick.tally == full.tally


def test_a_good_row_needs_no_full_look() -> None:
    data = GOOD + b"\r\n" + line(SYSTEM, USER, ANSWER, id="7") + b"\n"
    starts = np.array([0, len(GOOD) + 2])
    glancing = Glancing(data, starts, np.array([len(GOOD), len(data) - 1]))
    glancing.look()

    seen = glancing.seen(but_not=())

    assert (seen.is_good.tolist(), seen.turns.tolist()) == ([True, True], [2, 3])
    assert seen.columns == {"messages": 2, "id": 1}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FORMS).flatmap(lambda form: st.from_regex(form, fullmatch=True)))
def test_no_form_of_a_key_passes_the_sieve(key: str) -> None:
    if key.isascii() and list(find_secrets(f"use {key} now")):
        block = GOOD.replace(b"Where", b"use " + key.encode() + b" now") + b"\n"

        assert rows_with_signs(block, np.array([0])) == {0}


def test_a_sign_is_told_of_its_row() -> None:
    blocks = [GOOD, GOOD.replace(b"Where", b"a</s>b"), GOOD, GOOD.replace(b"Where", b"\\u0000")]
    starts = np.cumsum([0, *(len(block) + 1 for block in blocks[:-1])])

    assert rows_with_signs(b"\n".join(blocks), starts) == {1, 3}


def test_the_order_of_keys_makes_no_other_row() -> None:
    turned = {"messages": [{"content": USER["content"], "role": "user"}, ANSWER]}

    assert hash_of(turned, b"") == hash_of({"messages": [USER, ANSWER]}, b"")
    assert hash_of({"a": 1, "b": {"c": 2, "d": 3}}, b"") == hash_of(
        {"b": {"d": 3, "c": 2}, "a": 1}, b""
    )


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "x"]), st.text(max_size=3))))
def test_other_rows_have_other_hashes(turns: list[tuple[str, str]]) -> None:
    rows = [
        {"messages": [{"role": role, "content": text} for role, text in turns]},
        {"messages": [{"role": role, "content": text + "1"} for role, text in turns]},
        {"messages": [{"role": role + "1", "content": text} for role, text in turns]},
        {"messages": [{"role": role, "content": [text]} for role, text in turns]},
        {"messages": [{"role": role, "content": text, "id": 1} for role, text in turns]},
        {"messages": [*({"role": r, "content": t} for r, t in turns), USER]},
        {"messages": [[role, text] for role, text in turns]},
    ]
    different = {json.dumps(row) for row in rows}

    assert len({hash_of(row, b"") for row in rows}) == len(different)


def _report(path: Path, processes: int) -> tuple[Report, list[Problem], bytes]:
    problems: list[Problem] = []
    table = io.BytesIO()
    with path.open("rb") as stream:
        report = validate(stream, emit=problems.append, table=table, processes=processes)
    return report, problems, table.getvalue()


@pytest.fixture(params=["a process with one thread", "a process with several"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run where helpers are forks of this process, and where they are fresh interpreters."""
    ended = threading.Event()
    waiting = threading.Thread(target=ended.wait)
    if request.param != "a process with one thread":
        waiting.start()
    yield
    ended.set()
    if waiting.ident is not None:
        waiting.join()


def test_several_processes_say_what_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None
) -> None:
    monkeypatch.setattr(parallel, "LARGE", 1)
    monkeypatch.setattr(parallel, "PART_BYTES", 5000)
    faults = [case for found in RAISES.values() for case in found if len(case) < 2000]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(row + b"\r\n" for row in [GOOD, *faults, GOOD] * 3))

    alone, together = _report(path, 1), _report(path, 3)

    assert alone == together
    assert alone[0].by_code.total() == len(alone[1])


@pytest.mark.parametrize("threads", ["a process with several"], indirect=True)
def test_work_of_a_lost_helper_is_done_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None
) -> None:
    monkeypatch.setattr(parallel, "LARGE", 1)
    monkeypatch.setattr(parallel, "PART_BYTES", 1000)
    monkeypatch.setattr("app.datasets.check.crew.COMMAND", ["false"])
    path = tmp_path / "rows.jsonl"
    path.write_bytes((GOOD + b"\n") * 100)

    assert _report(path, 2)[0].examples == 100


def test_a_row_keeps_no_more_faults_of_a_code_than_are_shown_and_counts_all() -> None:
    turns = b'{"role":"bot","content":"x"},' * 30_000
    row = b'{"messages":[' + turns + b"0," * 20_000 + b"0]}"

    found = part_of(row + b"\n" + b'{"messages":[5]}\n')

    shown = Counter(one.code for one in found.problems)
    assert found.by_code == {Code.UNKNOWN_ROLE: 30_000, Code.MESSAGE_NOT_AN_OBJECT: 20_002}
    assert shown == dict.fromkeys(found.by_code, DETAIL_PER_CODE)
    assert [one.line for one in found.problems] == [0] * len(found.problems)
    last = found.problems[-1]
    assert last.message == "Turn 40000 is 0, not an object."
    assert last.excerpt[last.mark_start : last.mark_end] == "0"


def test_what_is_not_kept_of_a_fault_is_never_written() -> None:
    asked: list[int] = []
    found = Findings(room=lambda _code: 2)

    for number in range(5):
        found.add(Code.MISSING_ROLE, lambda number=number: str(asked.append(number)))

    assert (asked, len(found), len(list(found))) == ([0, 1], 5, 2)


def test_each_of_very_many_tools_turns_is_held_against_the_last_call() -> None:
    row = b'{"messages":[' + b",".join([b'{"role":"tool","content":"x"}'] * 100_000) + b"]}"

    found = part_of(row + b"\n")

    assert found.by_code == {Code.ROLES_DO_NOT_ALTERNATE: 100_000, Code.NO_ASSISTANT_MESSAGE: 1}
