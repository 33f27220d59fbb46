"""The table of rows finds a row by place and by line without reading the rest."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.table import HAS_ERROR, RECORD, TableReader, as_records


def _table(lines: list[int]) -> TableReader:
    count = len(lines)
    made = as_records(
        lines=lines,
        offsets=[line * 10 for line in lines],
        sizes=[9] * count,
        flags=[HAS_ERROR if line % 2 else 0 for line in lines],
        hashes=np.arange(2 * count, dtype=np.uint64).reshape(-1, 2),
    )
    return TableReader(io.BytesIO(made.tobytes()))


def test_a_record_has_forty_bytes() -> None:
    assert RECORD.itemsize == 40


@given(st.lists(st.integers(1, 10_000), unique=True).map(sorted), st.integers(0, 10_001))
def test_a_line_is_found_or_the_next_one(lines: list[int], wanted: int) -> None:
    expected = next((at for at, line in enumerate(lines) if line >= wanted), len(lines))

    assert _table(lines).place_of_line(wanted) == expected


def test_rows_come_from_a_place_on_and_end_with_the_table() -> None:
    table = _table([2, 3, 7])

    found = table.rows(1, 10)

    assert [(row.place, row.line, row.offset, row.is_good) for row in found] == [
        (1, 3, 30, False),
        (2, 7, 70, False),
    ]
    assert table.array()["hash"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert table.rows(3, 10) == []
