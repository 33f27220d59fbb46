"""Copies are found by their hashes, a part of them at a time, and marked in the table."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.alike import copies
from app.datasets.table import HAS_ERROR, HAS_WARNING, TableReader, as_records, mark


def table_of(hashes: list[int]) -> io.BytesIO:
    count = len(hashes)
    pairs = np.array([[(one << 60) % 2**64, one] for one in hashes], dtype=np.uint64)
    made = as_records(
        lines=range(1, count + 1),
        offsets=range(count),
        sizes=[1] * count,
        flags=[HAS_ERROR] * count,
        hashes=pairs.reshape(-1, 2),
    )
    return io.BytesIO(made.tobytes())


@given(st.lists(st.integers(0, 40)), st.sampled_from([1, 3, 8, 1 << 20]))
def test_each_copy_names_the_first_row_like_it(hashes: list[int], part: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "_PART_ROWS", part)
        patch.setattr(copies, "_AT_ONCE", 5)
        found = list(copies.copies(TableReader(table_of(hashes))))

    first = {one: hashes.index(one) for one in hashes}
    # A row without a hash is a copy of none.
    assert found == [
        (place, first[one]) for place, one in enumerate(hashes) if one and first[one] != place
    ]


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_rows_are_marked_and_no_other(wanted: list[bool]) -> None:
    table = table_of([1] * len(wanted))

    mark(table, np.flatnonzero(wanted), HAS_WARNING)

    flags = TableReader(table).array()["flags"]
    assert flags.tolist() == [HAS_ERROR | HAS_WARNING * one for one in wanted]
