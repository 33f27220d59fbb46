"""Rows that repeat an earlier one, remembered while a file is read: the check's first way. Pure.

Rows are remembered as numbers, 84 bytes each, and compared once all are known. Copies have the
same 128-bit hash. Near duplicates are found by MinHash over words (``rensa``) with banding, then
compared word by word: rows that share only a system prompt or a question are none.
"""

import re
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # no type stubs

from app.datasets.formats.base import Turn

_BANDS, _BAND_ROWS = 12, 8
_PERMUTATIONS = _BANDS * _BAND_ROWS
_BAND_BYTES = 4 * _BAND_ROWS
_NEIGHBOURS = 8  # how many earlier rows of a band are looked at
_COMPARED = 4  # of those, how many are compared word by word
_ROWS_AT_ONCE = 1 << 14
_PLACE_BITS = 40  # a row's number within the file, beside its number within the chunk
_CACHED_BYTES = 4 * 2**20  # of rows; their words take about twenty times as much

# How many of the words may differ: of the whole row, of the answer, of the question.
_WHOLE, _ANSWER, _QUESTION = 0.05, 0.05, 1 / 3

# Scripts written without spaces: each character counts as a word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff]")

Indices = npt.NDArray[np.int64]
ReadTurns = Callable[[int, int], Sequence[Turn]]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A row that repeats the row on the line ``of``: a copy, or almost."""

    line: int
    of: int
    exact: bool
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Words:
    question: list[str]
    answer: list[str]
    questions: frozenset[str]
    answers: frozenset[str]


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case; characters where a script has no spaces."""
    if not text.isascii():
        text = _UNSPACED.sub(r" \g<0> ", text)
    return text.lower().split()


def _texts(turns: Sequence[Turn]) -> tuple[str, str]:
    """Return what is asked (by users and tools) and what the assistant answers."""
    answer = [turn.text for turn in turns if turn.role == "assistant"]
    question = [turn.text for turn in turns if turn.role in ("user", "tool")]
    return " ".join(question), " ".join(answer)


def _differing(one: list[str], other: list[str]) -> int:
    """Return how many words of the one or the other have no partner."""
    here, there = Counter(one), Counter(other)
    return max((here - there).total(), (there - here).total())


def _almost_equal(one: _Words, other: _Words) -> bool:
    answers = max(len(one.answer), len(other.answer))
    questions = max(len(one.question), len(other.question))
    # Cheap first: at least as many words differ as there are words in the one only.
    if len(one.answers - other.answers) > _ANSWER * answers:
        return False
    if len(one.questions - other.questions) > _QUESTION * questions:
        return False
    answer = _differing(one.answer, other.answer)
    question = _differing(one.question, other.question)
    return (
        answer <= _ANSWER * answers
        and question <= _QUESTION * questions
        and answer + question <= _WHOLE * (answers + questions)
    )


class Repeats:
    """Takes rows in the order of their lines; ``found`` then tells which repeat an earlier one."""

    def __init__(self) -> None:
        self._lines, self._offsets, self._sizes = array("Q"), array("Q"), array("I")
        self._hashes = array("Q")
        self._bands = array("I")
        self._signed = bytearray()

    def add(self, place: tuple[int, int, int], canonical: bytes, turns: Sequence[Turn]) -> None:
        """Remember a row: its (line, offset, size), its normalised bytes and its turns."""
        for numbers, value in zip((self._lines, self._offsets, self._sizes), place, strict=True):
            numbers.append(value)
        self._hashes.frombytes(xxhash.xxh3_128_digest(canonical))
        words = words_of(" ".join(_texts(turns)))
        self._signed.append(bool(words))
        self._bands.extend(_band_keys(words) if words else [0] * _BANDS)

    def found(self, read: ReadTurns) -> Iterator[Repeat]:
        """Yield the repeats by line. ``read`` gives the turns of a row by its offset and size."""
        if not self._lines:
            return
        first = _first_copies(np.frombuffer(self._hashes, dtype=np.uint64).reshape(-1, 2))
        near = self._near(first, _Reader(read, self._offsets, self._sizes))
        pending = next(near, None)
        for row in range(len(self._lines)):
            if first[row] != row:
                yield self._repeat(row, int(first[row]), exact=True)
            elif pending is not None and pending[0] == row:
                yield self._repeat(row, pending[1], exact=False)
                pending = next(near, None)

    def _repeat(self, row: int, of: int, *, exact: bool) -> Repeat:
        place = self._lines[row], self._lines[of]
        return Repeat(*place, exact, self._offsets[row], self._sizes[row])

    def _near(self, first: Indices, reader: "_Reader") -> Iterator[tuple[int, int]]:
        """Yield (row, earlier row) of near duplicates, among rows that are no copies."""
        unique = first == np.arange(len(first))
        rows = np.flatnonzero(unique & np.frombuffer(self._signed, dtype=np.bool_))
        bands = np.frombuffer(self._bands, dtype=np.uint32).reshape(-1, _BANDS)
        index = [_Band(np.ascontiguousarray(bands[rows, band])) for band in range(_BANDS)]
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            chunk = np.arange(start, min(start + _ROWS_AT_ONCE, len(rows)))
            for place, candidates in _candidates(index, chunk):
                row = int(rows[place])
                earlier = reader.first_alike(row, [int(rows[other]) for other in candidates])
                if earlier is not None:
                    yield row, earlier


def _band_keys(words: list[str]) -> list[int]:
    sketch = RMinHash(num_perm=_PERMUTATIONS, seed=1)
    sketch.update(words)
    digest = array("I", sketch.digest()).tobytes()
    return [
        xxhash.xxh32_intdigest(digest[start : start + _BAND_BYTES])
        for start in range(0, len(digest), _BAND_BYTES)
    ]


def _first_copies(hashes: npt.NDArray[np.uint64]) -> Indices:
    """Return for each row the first row with the same hash, itself if there is none before."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal rows stay in order
    ordered = hashes[order]
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    leaders = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    first = np.empty(len(order), dtype=np.int64)
    first[order] = leaders
    return first


class _Band:
    """One band's keys, sorted, so that rows with the same key lie side by side."""

    def __init__(self, keys: npt.NDArray[np.uint32]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self._position = np.empty_like(self._order)
        self._position[self._order] = np.arange(len(keys))

    def pairs(self, rows: Indices, step: int) -> Indices:
        """Return the row ``step`` places before each row with the same key, packed with it."""
        at = self._position[rows]
        near = at - step
        fits = near >= 0
        fits[fits] = self._keys[near[fits]] == self._keys[at[fits]]
        return ((rows[fits] - rows[0]) << _PLACE_BITS) | self._order[near[fits]]


def _candidates(bands: Sequence[_Band], rows: Indices) -> Iterator[tuple[int, list[int]]]:
    """Yield each row with earlier rows that share bands with it, the most alike first."""
    steps = range(1, _NEIGHBOURS + 1)
    pairs = np.concatenate([band.pairs(rows, step) for band in bands for step in steps])
    if not len(pairs):
        return
    unique, counts = np.unique(pairs, return_counts=True)
    row = unique >> _PLACE_BITS
    order = np.lexsort((-counts, row))
    others = (unique & ((1 << _PLACE_BITS) - 1))[order]
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(unique)], strict=True):
        best: list[int] = others[start : min(end, start + _COMPARED)].tolist()
        yield int(rows[0] + row[start]), best


class _Reader:
    """Reads rows again for the comparison by words, and remembers the latest ones."""

    def __init__(self, read: ReadTurns, offsets: "array[int]", sizes: "array[int]") -> None:
        self._read, self._offsets, self._sizes = read, offsets, sizes
        self._cache: OrderedDict[int, _Words] = OrderedDict()
        self._cached = 0

    def first_alike(self, row: int, others: list[int]) -> int | None:
        """Return which of ``others`` reads almost the same as ``row``."""
        words = self._words(row)
        return next((other for other in others if _almost_equal(words, self._words(other))), None)

    def _words(self, row: int) -> _Words:
        if row in self._cache:
            self._cache.move_to_end(row)
            return self._cache[row]
        question, answer = _texts(self._read(self._offsets[row], self._sizes[row]))
        asked, answered = words_of(question), words_of(answer)
        words = _Words(asked, answered, frozenset(asked), frozenset(answered))
        self._cache[row] = words
        self._cached += self._sizes[row]
        while self._cached > _CACHED_BYTES and len(self._cache) > 1:
            oldest, _ = self._cache.popitem(last=False)
            self._cached -= self._sizes[oldest]
        return words
