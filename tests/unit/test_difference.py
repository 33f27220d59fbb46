"""What changed between two lists of rows: nothing is lost, counted twice or paired at random."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.alike.difference import KINDS, Hashes, changes


def hashes(rows: list[int] | str) -> Hashes:
    numbers = np.array([ord(row) if isinstance(row, str) else row for row in rows], dtype=np.uint64)
    return np.stack([numbers % 7, numbers], axis=1).astype(np.uint64)


def said(old: str, new: str) -> list[str]:
    """Return each change as +x, -x or x>y, in order."""
    found = changes(hashes(old), hashes(new))
    assert found.same == len(old) - np.count_nonzero(found.before >= 0)
    marks = {"removed": "-{0}", "added": "+{1}", "changed": "{0}>{1}"}
    return [
        marks[KINDS[kind]].format(old[before : before + 1], new[after : after + 1])
        for kind, before, after in zip(
            found.kinds.tolist(), found.before.tolist(), found.after.tolist(), strict=True
        )
    ]


def test_rows_added_removed_and_changed_are_told_apart() -> None:
    assert said("abc", "abc") == []
    assert said("abc", "abxc") == ["+x"]
    assert said("abc", "ac") == ["-b"]
    assert said("abc", "axc") == ["b>x"]
    assert said("", "ab") == ["+a", "+b"]
    assert said("ab", "") == ["-a", "-b"]


def test_rows_of_one_gap_are_paired_in_order_and_the_rest_is_left() -> None:
    assert said("abcd", "axyzd") == ["b>x", "c>y", "+z"]
    assert said("abcd", "xd") == ["a>x", "-b", "-c"]


def test_a_copy_more_is_added_and_a_moved_row_is_the_same() -> None:
    assert said("ab", "aab") == ["+a"]
    assert said("abc", "cab") == []


rows = st.lists(st.integers(0, 6), max_size=30)


@settings(deadline=None)
@given(rows, rows)
def test_every_row_is_the_same_or_stands_in_one_change(old: list[int], new: list[int]) -> None:
    found = changes(hashes(old), hashes(new))

    before, after = found.before[found.before >= 0], found.after[found.after >= 0]
    assert len(set(before.tolist())) == len(before) == len(old) - found.same
    assert len(set(after.tolist())) == len(after) == len(new) - found.same
    kept = sorted(np.delete(np.array(old, dtype=np.int64), before).tolist())
    assert kept == sorted(np.delete(np.array(new, dtype=np.int64), after).tolist())


@settings(deadline=None)
@given(rows, rows)
def test_turned_round_added_is_removed(old: list[int], new: list[int]) -> None:
    there, back = changes(hashes(old), hashes(new)), changes(hashes(new), hashes(old))

    assert there.same == back.same
    assert len(there.before[there.before >= 0]) == len(back.after[back.after >= 0])
