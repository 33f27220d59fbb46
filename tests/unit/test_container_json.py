"""A JSON array gives its rows one by one, however it is written, and goes on behind broken ones."""

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.containers.base import Item, fault_of
from app.datasets.containers.json_array import JsonArray
from app.datasets.problems import Code
from tests.unit.containers import Taken, cleaned, conversations

ROWS = conversations(4)
LINES = [json.dumps(row).encode() for row in ROWS]
A_LINE_EACH = b"[\n" + b",\n".join(LINES) + b"\n]\n"


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
def test_rows_come_back_with_the_line_on_which_they_start(indent: Any) -> None:
    content = json.dumps(ROWS, indent=indent)

    taken = Taken(content.encode())

    assert (taken.kind, taken.values, taken.said) == (("json", None), ROWS, [])
    starts = [1] * 4
    if indent is not None:
        deep = "" if indent == 0 else indent if indent == "\t" else "  "
        opens = deep + "{"
        depth = 0
        starts = []
        for number, line in enumerate(content.split("\n"), start=1):
            if line == opens and depth == 0:
                starts.append(number)
            depth += line.rstrip(",").endswith(("[", "{")) - line.strip().startswith(("]", "}"))
            depth = max(0, depth - (number == 1))
    assert taken.lines == starts


def test_rows_keep_their_lines_where_several_share_one() -> None:
    taken = Taken(b"[" + LINES[0] + b", " + LINES[1] + b",\n\n" + LINES[2] + b"]")

    assert (taken.lines, taken.values) == ([1, 1, 3], ROWS[:3])


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=5), values, min_size=1, max_size=3), min_size=1),
    st.sampled_from([None, 0, 1, 4]),
    st.booleans(),
)
def test_any_list_of_objects_comes_back_equal(rows: list[Any], indent: Any, ascii_: bool) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=ascii_).encode()

    found = list(JsonArray().items(io.BytesIO(content)))

    assert [json.loads(item.data) for item in found if isinstance(item, Item)] == rows


class Drip(io.BytesIO):
    """Gives few bytes at a time, whatever is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most seven bytes."""
        del size
        return super().read(7)


def test_what_a_chunk_cuts_is_put_together() -> None:
    found = list(JsonArray().items(Drip(json.dumps(ROWS, indent=1).encode())))

    assert [json.loads(item.data) for item in found if isinstance(item, Item)] == ROWS


@pytest.mark.parametrize(
    "broken",
    [
        LINES[1][:-1],
        LINES[1][:-2],
        LINES[1].replace(b'"assistant"', b'"assistant'),
        LINES[1].replace(b"[", b"", 1),
        LINES[1].replace(b"]}", b"}"),
        LINES[1].replace(b"lamps", b"la\nmps"),
    ],
)
@pytest.mark.parametrize("between", [b",\n", b", ", b","])
def test_reading_goes_on_at_the_row_behind_a_broken_one(broken: bytes, between: bytes) -> None:
    taken = Taken(b"[" + between.join([LINES[0], broken, LINES[2], LINES[3]]) + b"]")

    assert taken.values == [ROWS[0], ROWS[2], ROWS[3]]
    (fault,) = taken.faults.values()
    assert fault.code is Code.INVALID_JSON
    assert taken.said == []


def test_a_broken_row_of_a_pretty_array_is_reported_where_it_starts() -> None:
    lines = json.dumps(ROWS, indent=2).split("\n")
    starts = [number for number, line in enumerate(lines) if line == "  {"]
    del lines[starts[1] + 2]  # the opening brace of its first turn

    taken = Taken("\n".join(lines).encode())

    assert list(taken.faults) == [starts[1] + 1]
    assert taken.values == [ROWS[0], ROWS[2], ROWS[3]]


def test_what_is_no_object_is_a_row_of_its_own() -> None:
    taken = Taken(b'[\n{"a": 1},\nnull, 12, "x,]y", nonsense here\n, [1], }\n]')

    assert taken.lines == [2, 3, 3, 3, 3, 4, 4]
    assert taken.raw[1:] == [b"null", b"12", b'"x,]y"', b"nonsense here", b"[1]", b"}"]


def test_a_mark_between_rows_is_a_broken_row() -> None:
    taken = Taken(b"[\n\xef\xbb\xbf, " + LINES[0] + b", \0]")

    assert (taken.values, len(taken.raw)) == ([ROWS[0]], 3)
    assert {fault.code for fault in map(fault_of, taken.raw) if fault} == {Code.INVALID_JSON}


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (A_LINE_EACH.replace(b"\n]", b",\n]"), 6, "a comma stands behind the last row"),
        (A_LINE_EACH.replace(b",\n", b"\n", 1), 3, "a comma is missing before this row"),
        (A_LINE_EACH.replace(b",\n", b",,\n", 1), 3, "there is a comma too many before this row"),
        (A_LINE_EACH[:-3], 5, "the list is never closed: its last ] is missing"),
        (A_LINE_EACH + b"done", 7, "there is more behind the end of the list; it is not read"),
        (b"\xef\xbb\xbf" + A_LINE_EACH, 1, "the file begins with the bytes EF BB BF"),
    ],
)
def test_what_stands_between_rows_is_reported_at_its_line(
    content: bytes, line: int, message: str
) -> None:
    taken = Taken(content)

    assert taken.values == ROWS
    assert [(at, said) for at, _, said in taken.said] == [(line, message)]


def test_a_list_that_ends_within_a_row_says_so_once() -> None:
    taken = Taken(A_LINE_EACH[:-30])

    assert taken.values == ROWS[:3]
    assert [fault.message for fault in taken.faults.values()] == [
        "the file ends before the row does"
    ]
    assert taken.said == []


def test_a_row_above_the_limit_is_passed_over() -> None:
    long = b'{"messages": "' + b"x" * 17 * 2**20 + b'"}'

    taken = Taken(b"[" + LINES[0] + b",\n" + long + b",\n" + LINES[1] + b"]")

    assert taken.values == ROWS[:2]
    assert [(at, fault.code) for at, fault in taken.faults.items()] == [(2, Code.LINE_TOO_LONG)]


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"{" * 10_000_000,
        b'[{"a":' * 1_000_000,
        b'[{"a":"' + b"x" * 60_000_000,
        b"[{}" + b"," * 10_000_000,
        b"[{}" + b" \n" * 10_000_000,
        b"[\n" + b",\n".join([LINES[0][:-1]] * 400) + b"\n]",
        b"[{}" + b"}" * 10_000_000,
        b"[{" + b"\0" * 10_000_000,
    ],
)
def test_hostile_arrays_end_soon_in_little_memory(content: bytes) -> None:
    tracemalloc.start()

    count = sum(1 for _ in JsonArray().items(io.BytesIO(content)))

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 0
    assert peak < 160 * 2**20


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_to_a_good_array_makes_it_crash(data: st.DataObject) -> None:
    content = bytearray(json.dumps(ROWS, indent=data.draw(st.sampled_from([None, 1]))).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=3))

    items = list(JsonArray().items(io.BytesIO(b"[" + bytes(content))))

    assert all(b"\n" not in item.data for item in items if isinstance(item, Item))


def test_the_cleaned_array_is_an_array_of_the_good_rows_byte_for_byte() -> None:
    pretty = json.dumps(ROWS, indent=3).encode()

    rest = cleaned(pretty, bad=[0, 2])

    assert json.loads(rest) == [ROWS[1], ROWS[3]]
    assert json.dumps(ROWS[3], indent=3).encode().replace(b"\n", b"\n   ") in rest
    assert Taken(rest).said == []
    assert json.loads(cleaned(pretty)) == ROWS


def test_a_broken_array_is_whole_when_cleaned() -> None:
    broken = b"\xef\xbb\xbf[" + b",\n".join([LINES[0], LINES[1][:-1], LINES[2]]) + b",,"

    assert json.loads(cleaned(broken, bad=[1])) == [ROWS[0], ROWS[2]]
