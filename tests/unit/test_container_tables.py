"""CSV and TSV give their records as rows, each with the line on which it starts."""

import csv
import io
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.containers.delimited import CSV
from app.datasets.problems import Code
from tests.unit.containers import Taken, cleaned, conversations, refusal

TURNS = conversations(1)[0]["messages"]


def written(*records: list[str], separator: str = ",", ending: str = "\n") -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, lineterminator=ending).writerows(records)
    return stream.getvalue().encode()


HEAD = ["prompt", "completion"]
cells = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t,;\"'"), max_size=12
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_csv_writes_comes_back_with_its_lines(
    records: list[list[str]], separator: str, ending: str
) -> None:
    taken = Taken(written(HEAD, *records, separator=separator, ending=ending))

    assert taken.kind == ("tsv" if separator == "\t" else "csv", None)
    assert taken.values == [dict(zip(HEAD, record, strict=True)) for record in records]
    line = 2
    for at, record in zip(taken.lines, records, strict=True):
        assert at == line
        line += 1 + sum(cell.count("\n") for cell in record)


def test_a_quoted_cell_keeps_its_line_breaks_and_quotes() -> None:
    taken = Taken(b'prompt,completion\r\n"Hi,\r\nthere","He said ""no""."\r\nx,y')

    assert taken.rows == [
        (2, {"prompt": "Hi,\r\nthere", "completion": 'He said "no".'}),
        (4, {"prompt": "x", "completion": "y"}),
    ]


def test_a_bom_is_said_and_no_part_of_a_name() -> None:
    taken = Taken(b"\xef\xbb\xbfprompt,completion\nHi,Hello\n")

    assert taken.values == [{"prompt": "Hi", "completion": "Hello"}]
    assert [code for _, code, _ in taken.said] == ["bom"]


def test_blank_lines_are_no_records_and_keep_their_numbers() -> None:
    taken = Taken(b"prompt,completion\n\nHi,Hello\n  \nx,y\n")

    assert list(zip(taken.lines, taken.raw, strict=True))[::2] == [(2, b""), (4, b"")]
    assert [line for line, _ in taken.rows] == [3, 5]


@pytest.mark.parametrize("record", ["Hi", "Hi,Hello,more", '"Hi",Hello,'])
def test_a_wrong_number_of_cells_is_a_fault_of_its_record(record: str) -> None:
    taken = Taken(f"prompt,completion\n{record}\nx,y\n".encode())

    assert [line for line, _ in taken.rows] == [3]
    assert taken.faults[2].code is Code.INVALID_JSON
    assert "where the header names 2 columns" in taken.faults[2].message


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ('Hi,"never closed', "never closed"),
        ('Hi,"closed" and on', "behind its closing quote"),
        ("Hi\rthere,Hello", "carriage return"),
    ],
)
def test_a_record_that_cannot_be_read_does_not_swallow_the_next(record: str, why: str) -> None:
    taken = Taken(f"prompt,completion\na,b\n{record}\nx,y\nz,w\n".encode())

    assert [line for line, _ in taken.rows] == [2, 4, 5]
    assert why in taken.faults[3].message


def test_bytes_that_are_not_utf8_are_named_with_their_line_and_place() -> None:
    taken = Taken(b'prompt,completion\na,"b\nc\xe9"\nx,y\n')

    assert taken.faults[2].code is Code.NOT_UTF8
    assert taken.faults[2].message == "byte 2 of line 3, 0xE9, is not UTF-8"
    assert taken.values == [{"prompt": "x", "completion": "y"}]


def test_columns_without_a_name_or_with_the_same_one_are_said() -> None:
    taken = Taken(b",prompt,completion,prompt\n0,a,b,c\n")

    assert taken.values == [{"prompt": "c", "completion": "b"}]
    assert taken.said == [
        (1, "unknown_key", "the column 1 of the header has no name and is not read"),
        (1, "unknown_key", "2 columns are named 'prompt'; only the last is read"),
    ]


def test_json_in_structured_columns_is_read() -> None:
    turns, history = json.dumps(TURNS, indent=1), '[["a", "b"]]'
    head = ["messages", "history", "tools", "chosen", "note", "label"]

    taken = Taken(
        written(
            head,
            [turns, history, "", turns, "[1, 2]", "TRUE"],
            [turns, "", "text", "plain text", '{"a": 1}', "0"],
            [turns, "", "", "[not json]", "", "maybe"],
        )
    )

    assert taken.values == [
        {
            "messages": TURNS,
            "history": [["a", "b"]],
            "chosen": TURNS,
            "note": "[1, 2]",
            "label": True,
        },
        {
            "messages": TURNS,
            "tools": "text",
            "chosen": "plain text",
            "note": '{"a": 1}',
            "label": False,
        },
        {"messages": TURNS, "chosen": "[not json]", "note": "", "label": "maybe"},
    ]


def test_turns_under_another_name_are_read_for_the_mapping() -> None:
    assert Taken(written(["id", "talk"], ["1", json.dumps(TURNS)])).values == [
        {"id": "1", "talk": TURNS}
    ]


def test_a_cell_as_python_shows_it_is_explained() -> None:
    taken = Taken(written(["messages", "id"], [str(TURNS), "1"]))

    assert taken.faults[2].code is Code.INVALID_JSON
    assert "json.dumps" in taken.faults[2].message


def test_a_single_column_of_conversations_is_a_table() -> None:
    taken = Taken(written(["messages"], [json.dumps(TURNS)]))

    assert (taken.kind, taken.values) == (("csv", None), [{"messages": TURNS}])


def test_a_table_with_names_of_its_own_is_known_by_its_records() -> None:
    assert Taken(b"Frage;Antwort\nWas?;Das, ja.\nWer?;Er.\n").values == [
        {"Frage": "Was?", "Antwort": "Das, ja."},
        {"Frage": "Wer?", "Antwort": "Er."},
    ]


@pytest.mark.parametrize("count", [1_001, 1_000_000])
def test_too_many_columns_are_refused(count: int) -> None:
    content = ",".join(f"c{number}" for number in range(count)).encode() + b"\n1,2\n"

    code, message = refusal(content)

    assert (code, "1,000 are the most" in message) == ("unknown_format", True)


@pytest.mark.parametrize(
    "content",
    [
        b"prompt,completion\n" + b'x,"' * 2_000_000,
        b'prompt,completion\na,"b\n' + b'c","d\n' * 150_000,
        b'prompt,completion\nx,"\n' + b"x,y\n" * 50_000,
        b"prompt,completion\n" + b"," * 20_000_000,
        b"prompt,completion\n" + b"," * 1_000_000,
        b"prompt,completion\n" + b"\0" * 1_000_000,
        b"prompt,completion\n" + b"\n" * 50_000,
    ],
)
def test_hostile_tables_end_soon_in_little_memory(content: bytes) -> None:
    tracemalloc.start()

    count = sum(1 for _ in CSV.items(io.BytesIO(content)))

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 0
    assert peak < 160 * 2**20


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_behind_a_header_make_it_crash(data: bytes) -> None:
    content = b"prompt,completion\nHi,Hello\n" + data

    taken = Taken(content)

    assert cleaned(content).startswith(b"prompt,completion\nHi,Hello\n")
    assert taken.lines == sorted(taken.lines)


def test_the_cleaned_table_keeps_header_and_good_records_byte_for_byte() -> None:
    content = b'\xef\xbb\xbfprompt;completion\r\nHi;"a\r\nb"\r\n\r\nbad\r\n"x" ;y\r\nz;w'

    rest = cleaned(content, bad=[1, 2])

    assert rest == b'prompt;completion\r\nHi;"a\r\nb"\r\nz;w'
    assert Taken(rest).faults == {}
