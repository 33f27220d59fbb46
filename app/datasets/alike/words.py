"""What rows say, as numbers: the hashes of their words, and how alike two rows are. Pure.

Two rows read almost the same if 85 of 100 of their words are shared (the shared words of all, each
counted as often as it stands there), fewer than a fifth of the answer's words differ, and at most
a third of the question's: rows that share only a question, or only an answer, are not alike. What
a system prompt says does not count. Each word is 31 bits of a hash, and a word's second occurrence
another one, so that sets of numbers are bags of words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # no type stubs

from app.datasets.formats.base import Turn

SIMILARITY = 0.85  # shared words of all words
_ANSWER = 1 / 5  # fewer of the answer's words may differ
_QUESTION = 1 / 3  # at most so many of the question's

# Scripts written without spaces: each character counts as a word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff]")
_ASKING = frozenset({"user", "tool"})

Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Worded:
    """The words of some rows: ``counts`` (rows × 2) of those asked and answered, and all hashes.

    The hashes of a row stand together, in order; bit 31 marks those of the answer.
    """

    counts: Counts
    hashes: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike pairs of rows are: shared words of all (0 to 1), and whether almost equal."""

    similarity: npt.NDArray[np.float64]
    almost: Flags


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case; characters where a script has no spaces."""
    if not text.isascii():
        text = _UNSPACED.sub(r" \g<0> ", text)
    return text.lower().split()


def sides_of(turns: Sequence[Turn]) -> tuple[list[str], list[str]]:
    """Return the words that are asked (by users and tools) and those the assistant answers."""
    answer = [turn.text for turn in turns if turn.role == "assistant"]
    question = [turn.text for turn in turns if turn.role in _ASKING]
    return words_of(" ".join(question)), words_of(" ".join(answer))


def worded(rows: Sequence[Sequence[Turn]]) -> Worded:
    """Return the words of rows, each given by its turns."""
    sides = list(chain.from_iterable(sides_of(turns) for turns in rows))
    lengths = np.fromiter(map(len, sides), dtype=np.int64, count=len(sides))
    hashed = chain.from_iterable(RMinHash.hash_token_sets(sides))
    hashes = np.fromiter(hashed, dtype=np.uint64, count=int(lengths.sum()))
    side = np.repeat(np.arange(len(sides), dtype=np.uint64), lengths)
    # Bit 31 is the side's lowest bit: a question's is even, its answer's the odd one behind it.
    keys = np.sort((side << np.uint64(31)) | (hashes >> np.uint64(33)))
    keys = np.sort(_occurrences(keys))
    return Worded(lengths.reshape(-1, 2), keys.astype(np.uint32))


def _occurrences(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return sorted keys of (side, word), where a repeated one stands for "the word once more"."""
    if not len(keys):
        return keys
    places = np.arange(len(keys))
    begins = np.append(True, keys[1:] != keys[:-1])
    times = places - np.maximum.accumulate(np.where(begins, places, 0))
    mixed = (keys + times.astype(np.uint64) * np.uint64(0x9E3779B1)) & np.uint64(2**31 - 1)
    return (keys & ~np.uint64(2**31 - 1)) | mixed


def likeness(one: Worded, other: Worded) -> Likeness:
    """Compare the rows of the one with those of the other, pair by pair."""
    shared = _shared(one, other)
    most = np.maximum(one.counts, other.counts)
    differing = most - shared
    everything = (one.counts + other.counts - shared).sum(axis=1)
    similarity = shared.sum(axis=1) / np.maximum(everything, 1)
    almost = (
        (similarity >= SIMILARITY)
        & ((differing[:, 1] < _ANSWER * most[:, 1]) | (differing[:, 1] == 0))
        & (differing[:, 0] <= _QUESTION * most[:, 0])
    )
    return Likeness(similarity, almost)


def may_be_alike(one: Counts, other: Counts) -> Flags:
    """Tell of which pairs the mere lengths (pairs × 2) allow that they are almost equal."""
    most, least = np.maximum(one, other), np.minimum(one, other)
    return least.sum(axis=1) >= SIMILARITY * most.sum(axis=1)


def _shared(one: Worded, other: Worded) -> Counts:
    """Return how many words (pairs × 2) both rows of a pair have, asked and answered."""
    both: list[npt.NDArray[np.uint64]] = []
    for side in (one, other):
        pair = np.repeat(np.arange(len(side), dtype=np.uint64), side.counts.sum(axis=1))
        both.append((pair << np.uint64(32)) | side.hashes)
    keys = np.sort(np.concatenate(both))
    twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(31)
    return np.bincount(twice.astype(np.int64), minlength=2 * len(one)).reshape(-1, 2)
