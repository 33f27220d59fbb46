"""Counts over the rows that can be trained: turns, roles, lengths, and the columns seen. Pure.

Memory is constant, whatever the number of rows: a length counts in a bucket of its own up to 4,095,
and in one no wider than its two-thousandth above. ``Tally`` counts some rows and is handed on as
bytes; ``Statistics`` adds tallies up.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from app.datasets.formats.base import Turn

_BINS = 32
_EXACT_BITS = 12  # lengths below 2 to this have a bucket each; others half as many an octave
_EXACT, _PER_OCTAVE = 1 << _EXACT_BITS, 1 << (_EXACT_BITS - 1)
_OCTAVES = 16  # up to 268 million characters
_BUCKETS = _EXACT + _OCTAVES * _PER_OCTAVE
_LONGEST = 10
_COLUMNS, _COLUMNS_SHOWN, _COLUMN_CHARACTERS = 1000, 50, 200
Numbers = npt.NDArray[np.int64]


def _buckets(values: Numbers) -> Numbers:
    """Return the bucket of each length."""
    shift = np.maximum(np.frexp(values.astype(np.float64))[1] - _EXACT_BITS, 0)
    return np.minimum((values >> shift) + shift * _PER_OCTAVE, _BUCKETS - 1)


def _lowest(buckets: Numbers) -> Numbers:
    """Return the shortest length of each bucket."""
    shift = np.maximum(buckets // _PER_OCTAVE - 1, 0)
    return (buckets - shift * _PER_OCTAVE) << shift


class Lengths(msgspec.Struct, gc=False):
    """How many lengths fell into which bucket, as bytes of u32 each, their sum and the largest."""

    buckets: bytes
    counts: bytes
    total: int
    most: int


class Tally(msgspec.Struct):
    """What a part of a file adds to the statistics; lines count from 0 within it."""

    rows: int
    objects: int
    lengths: Lengths
    by_role: dict[str, Lengths]
    turns: dict[int, int]
    longest: list[tuple[int, int]]  # characters, line
    columns: dict[str, int]


_roles: dict[str, int] = {}


@cache
def codes_of(roles: tuple[str, ...]) -> bytes:
    """Return roles as ``Counting.add`` wants them."""
    return bytes(_roles.setdefault(role, len(_roles)) for role in roles)


class Counting:
    """Counts the rows of a part of a file."""

    def __init__(self) -> None:
        # Numbers and bytes only: thousands of small objects would keep the garbage collector busy.
        self._lines: array[int] = array("q")
        self._turns: array[int] = array("q")
        self._codes = bytearray()
        self._lengths: array[int] = array("q")
        self._columns: Counter[str] = Counter()
        self._objects = 0

    def add(self, line: int, codes: bytes, lengths: Sequence[int]) -> None:
        """Count a good row: its line, and the role and the characters of each turn."""
        self._lines.append(line)
        self._turns.append(len(codes))
        self._codes += codes
        self._lengths.extend(lengths)

    def add_all(
        self, lines: Numbers, turns: Numbers, codes: npt.NDArray[np.uint8], lengths: Numbers
    ) -> None:
        """Count good rows: their lines and numbers of turns, and the roles and lengths of those."""
        self._lines.frombytes(lines.tobytes())
        self._turns.frombytes(turns.tobytes())
        self._codes += codes.tobytes()
        self._lengths.frombytes(lengths.tobytes())

    def add_turns(self, line: int, turns: Sequence[Turn]) -> None:
        """Count a good row by its turns."""
        codes = codes_of(tuple([turn.role for turn in turns]))
        self.add(line, codes, [len(turn.text) for turn in turns])

    def saw(self, row: dict[str, Any]) -> None:
        """Count the columns of a row, good or bad."""
        self._objects += 1
        for name in row:
            if len(self._columns) < _COLUMNS or name in self._columns:
                self._columns[name[:_COLUMN_CHARACTERS]] += 1

    def saw_all(self, count: int, columns: Mapping[str, int]) -> None:
        """Count the columns of so many rows."""
        self._objects += count
        self._columns.update(columns)

    def result(self) -> Tally:
        """Return the counts."""
        codes = np.frombuffer(bytes(self._codes), dtype=np.uint8)
        turns, lengths = _as_numbers(self._turns), _as_numbers(self._lengths)
        sums, ends = np.append(0, np.cumsum(lengths)), np.cumsum(turns)
        rows = sums[ends] - sums[ends - turns]
        best = np.lexsort((_as_numbers(self._lines), -rows))[:_LONGEST].tolist()
        return Tally(
            rows=len(rows),
            objects=self._objects,
            lengths=_packed(rows),
            by_role={
                role: _packed(lengths[codes == code])
                for role, code in _roles.items()
                if (codes == code).any()
            },
            turns=dict(Counter(self._turns)),
            longest=[(int(rows[at]), self._lines[at]) for at in best],
            columns=dict(self._columns),
        )


def _as_numbers(values: "array[int]") -> Numbers:
    return np.frombuffer(values.tobytes(), dtype=np.int64)


def _packed(lengths: Numbers) -> Lengths:
    counts = np.bincount(_buckets(lengths), minlength=1)
    buckets = np.flatnonzero(counts)
    return Lengths(
        buckets.astype(np.uint32).tobytes(),
        counts[buckets].astype(np.uint32).tobytes(),
        int(lengths.sum()),
        int(lengths.max(initial=0)),
    )


class _Histogram:
    """How often each length was seen."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, dtype=np.int64)
        self.total = 0
        self.most = 0
        self.number = 0

    def add(self, lengths: Lengths) -> None:
        counts = np.frombuffer(lengths.counts, dtype=np.uint32)
        self._counts[np.frombuffer(lengths.buckets, dtype=np.uint32)] += counts
        self.total += lengths.total
        self.most = max(self.most, lengths.most)
        self.number += int(counts.sum())

    def quantile(self, share: float) -> int:
        """Return the length that ``share`` of all are no longer than, nearly."""
        if not self.number:
            return 0
        place = min(self.number - 1, int(self.number * share))
        bucket = np.searchsorted(np.cumsum(self._counts), place, side="right")
        return min(self.most, int(_lowest(np.array([bucket]))[0]))

    def bins(self) -> list[list[int]]:
        """Bins of equal width up to the 99th percentile; the last one takes the rest."""
        seen = np.flatnonzero(self._counts)
        if not len(seen):
            return []
        lengths = _lowest(seen.astype(np.int64))
        low, high = int(lengths[0]), self.quantile(0.99)
        width = max(1, -(-(high - low + 1) // _BINS))
        into = np.minimum((lengths - low) // width, _BINS - 1)
        counts = np.bincount(into, weights=self._counts[seen]).astype(np.int64).tolist()
        bins = [[low + n * width, low + (n + 1) * width - 1, got] for n, got in enumerate(counts)]
        bins[-1][1] = max(bins[-1][1], self.most)
        return bins


class Statistics:
    """Adds up tallies; ``result`` is plain JSON."""

    def __init__(self) -> None:
        self._rows = 0
        self._objects = 0
        self._lengths = _Histogram()
        self._by_role: dict[str, _Histogram] = {}
        self._turns: Counter[int] = Counter()
        self._longest: list[tuple[int, int]] = []
        self._columns: Counter[str] = Counter()

    def add(self, tally: Tally, lines: Sequence[int] | npt.NDArray[np.uint64]) -> None:
        """Add a part whose lines have these numbers in the file."""
        self._rows += tally.rows
        self._objects += tally.objects
        self._lengths.add(tally.lengths)
        for role, lengths in tally.by_role.items():
            self._by_role.setdefault(role, _Histogram()).add(lengths)
        self._turns.update(tally.turns)
        longest = [(characters, int(lines[line])) for characters, line in tally.longest]
        order = sorted([*self._longest, *longest], key=lambda found: (-found[0], found[1]))
        self._longest = order[:_LONGEST]
        for name, count in tally.columns.items():
            if len(self._columns) < _COLUMNS or name in self._columns:
                self._columns[name] += count

    def result(self) -> dict[str, Any]:
        """Return rows, turns, roles, lengths and columns; histograms as [low, high, count]."""
        turns = _Histogram()
        numbers, counts = np.array(list(self._turns.items()), dtype=np.int64).reshape(-1, 2).T
        turns.add(_spread(numbers, counts))
        return {
            "rows": self._rows,
            "turns": {"median": turns.quantile(0.5), "max": turns.most},
            "turns_histogram": self._turns_histogram(turns),
            "turns_by_role": {role: found.number for role, found in self._by_role.items()},
            "characters_by_role": {role: found.total for role, found in self._by_role.items()},
            "characters": {
                "total": self._lengths.total,
                "median": self._lengths.quantile(0.5),
                "p90": self._lengths.quantile(0.9),
                "max": self._lengths.most,
            },
            "characters_histogram": self._lengths.bins(),
            "characters_histogram_by_role": {
                role: found.bins() for role, found in self._by_role.items()
            },
            "longest": [{"line": line, "characters": length} for length, line in self._longest],
            "columns": [
                {"name": name, "share": count / self._objects}
                for name, count in self._columns.most_common(_COLUMNS_SHOWN)
            ],
        }

    def _turns_histogram(self, turns: _Histogram) -> list[list[int]]:
        if len(self._turns) > 2 * _BINS:
            return turns.bins()
        return [[n, n, count] for n, count in sorted(self._turns.items())]


def _spread(values: Numbers, counts: Numbers) -> Lengths:
    """Return values that were seen so many times each; those of one bucket together."""
    buckets = _buckets(values)
    sums = np.bincount(buckets, weights=counts, minlength=1).astype(np.int64)
    seen = np.flatnonzero(sums)
    return Lengths(
        seen.astype(np.uint32).tobytes(),
        sums[seen].astype(np.uint32).tobytes(),
        int((values * counts).sum()),
        int(values.max(initial=0)),
    )
