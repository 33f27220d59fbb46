"""Parquet gives each row as JSON, or says exactly why it has none."""

import datetime as dt
import decimal
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.problems import Code
from tests.unit.containers import Taken, cleaned, conversations, refusal

ROWS = conversations(300)
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001  # Parquet has times without zone


def written(columns: dict[str, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, **options)
    return stream.getvalue()


def first(values: Any, kind: Any = None) -> Any:
    """Return what a single value becomes."""
    taken = Taken(written({"x": pa.array([values], kind), "messages": ["y"]}))
    return taken.values[0].get("x") if taken.values else taken.faults[1].message


def test_rows_come_back_with_their_numbers() -> None:
    taken = Taken(written({"messages": [row["messages"] for row in ROWS]}, row_group_size=70))

    assert (taken.kind, taken.values) == (("parquet", None), ROWS)
    assert taken.lines == list(range(1, 301))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"prompt": texts, "n": st.integers(-(2**63), 2**63 - 1), "tags": st.lists(texts)}
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_arrow_writes_comes_back_equal(rows: list[dict[str, Any]]) -> None:
    stream = io.BytesIO()
    kinds = {"prompt": pa.string(), "n": pa.int64(), "tags": pa.list_(pa.string())}
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(kinds)), stream)

    assert Taken(stream.getvalue()).values == rows


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (NOW, pa.timestamp("ns"), "2026-01-02T03:04:05.000006"),
        (NOW, pa.timestamp("ms", "America/New_York"), "2026-01-02T03:04:05Z"),
        (NOW.date(), None, "2026-01-02"),
        (NOW.time(), pa.time64("ns"), "03:04:05.000006"),
        (dt.timedelta(days=1, seconds=2), pa.duration("ns"), "P1DT2S"),
        (decimal.Decimal("1.50"), None, 1.5),
        (2**64 - 1, pa.uint64(), 2**64 - 1),
        (1.5, pa.float16(), 1.5),
        (float("nan"), None, None),
        (None, None, None),
        (b"text", None, "text"),
        (b"ab", pa.binary(2), "ab"),
        ("x", pa.large_string(), "x"),
        ("x", pa.dictionary(pa.int8(), pa.string()), "x"),
        ([("a", 1), ("b", None)], pa.map_(pa.string(), pa.int64()), {"a": 1}),
        ([(1, "x")], pa.map_(pa.int32(), pa.string()), [[1, "x"]]),
        ([1, 2], pa.list_(pa.int8(), 2), [1, 2]),
        ([1, None], pa.large_list(pa.int8()), [1, None]),
        ({"a": None, "b": [{"c": NOW}]}, None, {"b": [{"c": "2026-01-02T03:04:05.000006"}]}),
        ('[{"role": "user", "content": "x"}]', None, [{"role": "user", "content": "x"}]),
        (
            [{"role": "assistant", "tool_calls": "[1]"}],
            None,
            [{"role": "assistant", "tool_calls": [1]}],
        ),
    ],
)
def test_every_type_has_its_form_in_json(value: Any, kind: Any, shown: Any) -> None:
    assert first(value, kind) == shown


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        (b"\xff\xfe\x00", None, "the column 'x' holds 3 bytes that are not UTF-8 text"),
        ([{"image": b"\x89PNG"}], None, "the column 'x' holds 4 bytes that are not UTF-8 text"),
        (float("inf"), None, "the column 'x' holds inf"),
        (2**62, pa.timestamp("us"), "date value out of range"),
    ],
)
def test_what_json_has_no_word_for_is_a_fault_of_its_row(value: Any, kind: Any, why: str) -> None:
    assert why in first(value, kind)


def test_a_row_without_a_form_leaves_the_others() -> None:
    taken = Taken(written({"x": [b"a", b"\xff", b"c"]}))

    assert [line for line, _ in taken.rows] == [1, 3]
    assert taken.faults[2].code is Code.INVALID_JSON


def test_a_damaged_file_is_refused_and_says_why() -> None:
    good = written({"a": [1]})

    for content in (good[:-4], good[:40], b"PAR1", b"PAR1 and text"):
        code, message = refusal(content)
        assert (code, "footer is missing or damaged" in message) == ("unknown_format", True)
    assert refusal(written({"a": pa.array([], pa.string())}))[0] == "empty_file"
    assert "1,001 columns" in refusal(written({f"c{n}": [1] for n in range(1001)}))[1]


def test_rows_before_a_damaged_page_are_kept() -> None:
    content = bytearray(
        written({"a": [f"text {n} " * 40 for n in range(4000)]}, row_group_size=500)
    )
    middle = len(content) // 2
    for place in range(middle, middle + 400):
        content[place] ^= 0x55

    taken = Taken(bytes(content))

    assert 500 <= len(taken.rows) < 4000
    ((line, code, message),) = taken.said
    assert (line, code) == (len(taken.rows) + 1, "invalid_json")
    assert message.startswith("the Parquet file cannot be read from here on")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_change_to_a_good_file_makes_it_crash(data: st.DataObject) -> None:
    content = bytearray(written({"messages": [row["messages"] for row in ROWS[:3]]}))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))

    taken = Taken(bytes(content))

    # A changed first byte makes it a text file, whose rows the check reads.
    assert isinstance(taken.rows if taken.kind[0] == "parquet" else taken.raw, list)


def test_the_cleaned_file_has_the_same_columns_and_the_good_rows() -> None:
    content = written(
        {"messages": [row["messages"] for row in ROWS], "when": [NOW] * 300}, row_group_size=50
    )

    rest = cleaned(content, bad=range(1, 300, 2))

    table = pq.read_table(io.BytesIO(rest))
    assert table.schema == pq.read_table(io.BytesIO(content)).schema
    assert table["messages"].to_pylist() == [row["messages"] for row in ROWS[::2]]
    assert len(Taken(rest).rows) == 150
