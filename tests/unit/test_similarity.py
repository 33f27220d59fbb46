"""Near duplicates: what is one, what is none, and that nothing depends on the number of helpers."""

import io
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.alike.copies import copies
from app.datasets.alike.similarity import Repeat, RowSource, TurnsOf, find, read_groups
from app.datasets.alike.words import sides_of, words_of
from app.datasets.table import TableReader, as_records

WORDS = [f"word{number}" for number in range(400)]
SIXTY = " ".join(WORDS[:60])
Row = tuple[str, str]


def table_of(rows: Sequence[bytes]) -> TableReader:
    """The table of rows that each stand on a line, as validation writes it."""
    sizes = [len(row) for row in rows]
    digests = b"".join(xxhash.xxh3_128_digest(row) if row else bytes(16) for row in rows)
    made = as_records(
        lines=list(range(1, len(rows) + 1)),
        offsets=[sum(sizes[:at]) + at for at in range(len(rows))],
        sizes=sizes,
        flags=[0] * len(rows),
        hashes=np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2),
    )
    return TableReader(io.BytesIO(made.tobytes()))


def said(question: str, answer: str, system: str = "") -> bytes:
    turns = [("user", question), ("assistant", answer)]
    if system:
        turns.insert(0, ("system", system))
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}).encode()


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size: data[offset : offset + size]


def found(rows: Sequence[bytes], *, processes: int = 1) -> tuple[list[tuple[int, int]], list[int]]:
    """Return (line, earlier line) of near duplicates, and each row's group."""
    data = b"\n".join(rows)
    bands, groups = io.BytesIO(), io.BytesIO()
    source = RowSource(reader(data), TurnsOf("messages"))
    repeats: list[Repeat] = list(
        find(source, table_of(rows), bands=bands, groups=groups, processes=processes)
    )
    assert len(bands.getvalue()) == 48 * len(rows)
    pairs = [(repeat.line, repeat.of) for repeat in repeats]
    return pairs, read_groups(io.BytesIO(groups.getvalue())).tolist()


def test_one_word_changed_in_sixty_is_a_near_duplicate() -> None:
    changed = SIXTY.replace("word30 ", "other ")

    assert found([said("Why?", SIXTY), said("Why?", changed)]) == ([(2, 1)], [0, 0])
    assert found([said(SIXTY, "Because."), said(changed, "Because.")]) == ([(2, 1)], [0, 0])


@pytest.mark.parametrize(
    "rows",
    [
        [said(SIXTY, "This is answer 1"), said(SIXTY, "This is answer 2")],
        [said(SIXTY, "It is positive"), said(SIXTY, "It is negative")],
        [said("How much?", "Four.", SIXTY), said("Who was it?", "Nobody.", SIXTY)],
        [said("How do I get there?", SIXTY), said("Who has seen the sun today?", SIXTY)],
    ],
)
def test_rows_that_share_only_one_part_are_none(rows: list[bytes]) -> None:
    assert found(rows) == ([], [0, 1])


def test_copies_are_no_near_duplicates_and_share_their_group() -> None:
    row, near = said("Why?", SIXTY), said("Why?", SIXTY + " more")
    other = said("Where?", "Nowhere at all.")

    assert found([other, row, other, row, near, near]) == ([(5, 2)], [0, 1, 0, 1, 1, 1])


def test_a_row_that_links_two_others_makes_one_group_of_them() -> None:
    words = WORDS[:60]
    first, last = words[:], words[:]
    first[:4], last[-4:] = ["a", "b", "c", "d"], ["w", "x", "y", "z"]
    rows = [said("Why?", " ".join(part)) for part in (first, last, words)]

    pairs, groups = found(rows)

    assert groups == [0, 0, 0]
    assert [line for line, _ in pairs] == [3]


def test_what_is_no_object_and_what_says_nothing_is_like_nothing() -> None:
    nothing = json.dumps({"messages": []}).encode()

    assert found([b"", b"", nothing, nothing[:-1] + b" }"]) == ([], [0, 1, 2, 3])
    assert found([]) == ([], [])


def some_rows(count: int, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    made: list[Row] = []
    for _ in range(count):
        if made and chance.random() < 0.5:
            parts = [text.split() for text in chance.choice(made)]
            for _ in range(chance.randint(0, 6)):
                part = chance.choice(parts)
                part[chance.randrange(len(part))] = chance.choice(WORDS)
            made.append((" ".join(parts[0]), " ".join(parts[1])))
        else:
            texts = (chance.choices(WORDS, k=chance.randint(3, 25)) for _ in range(2))
            made.append((" ".join(next(texts)), " ".join(next(texts))))
    return [said(*row) for row in made]


def similar(one: Row, other: Row) -> bool:
    """Say the same as the search, word by word and slowly."""
    shared, everything, fits = 0, 0, True
    for here, there, limit in zip(one, other, (1 / 3, 0.1999), strict=True):
        here_words, there_words = Counter(words_of(here)), Counter(words_of(there))
        common = (here_words & there_words).total()
        most = max(here_words.total(), there_words.total())
        fits &= most - common <= limit * most
        shared += common
        everything += here_words.total() + there_words.total() - common
    return fits and shared >= 0.85 * everything


def texts_of(row: bytes) -> Row:
    turns = json.loads(row)["messages"]
    return turns[0]["content"], turns[1]["content"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_every_row_named_is_like_the_row_it_names(seed: int) -> None:
    rows = some_rows(60, seed)

    for line, of in found(rows)[0]:
        assert of < line
        assert similar(texts_of(rows[line - 1]), texts_of(rows[of - 1]))


def test_nearly_all_rows_like_an_earlier_one_are_named() -> None:
    rows = list(dict.fromkeys(some_rows(400, 7)))
    texts = [texts_of(row) for row in rows]
    wanted = {
        later + 1
        for later in range(len(rows))
        if any(similar(texts[later], texts[earlier]) for earlier in range(later))
    }

    named = {line for line, _ in found(rows)[0]}

    assert named <= wanted
    assert len(named) >= 0.98 * len(wanted) > 40


def test_helpers_find_the_same_as_one_process() -> None:
    rows = some_rows(2500, 3)

    assert found(rows, processes=2) == found(rows)


def test_helpers_work_after_this_process_did_the_same_alone() -> None:
    code = (
        "from tests.unit.test_similarity import found, some_rows\n"
        "alone = found(some_rows(2500, 3))\n"
        "assert found(some_rows(2500, 3), processes=2) == alone\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@settings(deadline=None)
@given(st.lists(st.integers(0, 5)))
def test_copies_are_what_a_dictionary_finds(values: list[int]) -> None:
    rows = [str(value).encode() if value else b"" for value in values]
    first: dict[bytes, int] = {}
    expected = [
        (place, first[row])
        for place, row in enumerate(rows)
        if row and first.setdefault(row, place) != place
    ]

    assert list(copies(table_of(rows))) == expected


def test_words_of_a_script_without_spaces_are_its_characters() -> None:
    assert words_of("Das ist 中文") == ["das", "ist", "中", "文"]
    assert sides_of([]) == ([], [])
