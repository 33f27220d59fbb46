"""Statistics are right whatever the order of the parts, and do not grow with the rows."""

import statistics as exactly

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.formats.base import Turn
from app.datasets.statistics import Counting, Statistics

LENGTHS = st.lists(st.integers(0, 200_000), min_size=1, max_size=60)


def counted(lengths: list[int], *, first: int = 0) -> Counting:
    counting = Counting()
    for line, length in enumerate(lengths, start=first):
        turns = [Turn("user", "x" * 3), Turn("assistant", "y" * length)]
        counting.saw({"messages": [], "id": 1} if line % 2 else {"messages": []})
        counting.add_turns(line, turns)
    return counting


def totals(*parts: Counting) -> dict[str, object]:
    whole = Statistics()
    for part in parts:
        whole.add(part.result(), np.arange(1, 10_000, dtype=np.uint64))
    return whole.result()


@given(LENGTHS)
def test_lengths_are_exact_below_4096_and_nearly_so_above(lengths: list[int]) -> None:
    found = totals(counted(lengths))

    rows = sorted(length + 3 for length in lengths)
    characters = found["characters"]
    assert isinstance(characters, dict)
    assert (characters["total"], characters["max"]) == (sum(rows), rows[-1])
    for name, share in (("median", 0.5), ("p90", 0.9)):
        wanted = rows[min(len(rows) - 1, int(len(rows) * share))]
        assert wanted * (1 - 1 / 2048) <= characters[name] <= wanted


@given(LENGTHS, st.integers(0, 60))
def test_parts_add_up_to_the_whole(lengths: list[int], cut: int) -> None:
    parts = counted(lengths[:cut]), counted(lengths[cut:], first=cut)

    assert totals(*parts) == totals(counted(lengths))


def test_roles_turns_columns_and_the_longest_rows_are_told() -> None:
    found = totals(counted(list(range(20))))

    assert found["rows"] == 20
    assert found["turns"] == {"median": 2, "max": 2}
    assert found["turns_histogram"] == [[2, 2, 20]]
    assert found["turns_by_role"] == {"user": 20, "assistant": 20}
    assert found["characters_by_role"] == {"user": 60, "assistant": sum(range(20))}
    assert found["columns"] == [{"name": "messages", "share": 1.0}, {"name": "id", "share": 0.5}]
    longest = found["longest"]
    assert isinstance(longest, list)
    assert (len(longest), longest[0]) == (10, {"line": 20, "characters": 22})
    by_role = found["characters_histogram_by_role"]
    assert isinstance(by_role, dict)
    assert sum(count for _, _, count in by_role["assistant"]) == 20


def test_half_of_the_middle_is_the_median() -> None:
    lengths = [5, 7, 9, 11, 13]

    found = totals(counted(lengths))

    assert found["characters"] == {
        "total": sum(lengths) + 15,
        "median": exactly.median(lengths) + 3,
        "p90": 16,
        "max": 16,
    }


def test_what_is_kept_does_not_grow_with_names_of_columns() -> None:
    counting = Counting()
    for number in range(3000):
        counting.saw({f"column {number}": 1, "messages": []})

    columns = totals(counting)["columns"]

    assert isinstance(columns, list)
    assert len(columns) == 50
    assert columns[0] == {"name": "messages", "share": 1.0}


def test_no_row_has_statistics_too() -> None:
    assert totals()["rows"] == 0
    assert totals()["characters_histogram"] == []
