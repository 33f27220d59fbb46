"""Counts over the rows that can be trained: turns, roles, lengths. Pure; constant memory a row."""

from array import array
from collections import Counter
from typing import Any

from app.datasets.formats.base import Turn

_BINS = 32


class Statistics:
    """Adds up rows; ``result`` is plain JSON."""

    def __init__(self) -> None:
        self._characters = array("Q")
        self._turns: Counter[int] = Counter()
        self._turns_by_role: Counter[str] = Counter()
        self._characters_by_role: Counter[str] = Counter()

    def add(self, turns: list[Turn]) -> None:
        """Count the turns of one good row."""
        for turn in turns:
            self._turns_by_role[turn.role] += 1
            self._characters_by_role[turn.role] += len(turn.text)
        self._turns[len(turns)] += 1
        self._characters.append(sum(len(turn.text) for turn in turns))

    def result(self) -> dict[str, Any]:
        """Return rows, turns, roles and lengths; histograms as [low, high, count]."""
        ordered = sorted(self._characters)
        turns = sorted(self._turns.elements())
        return {
            "rows": len(ordered),
            "turns": {"median": _quantile(turns, 0.5), "max": turns[-1] if turns else 0},
            "turns_histogram": [[n, n, count] for n, count in sorted(self._turns.items())],
            "turns_by_role": dict(self._turns_by_role),
            "characters_by_role": dict(self._characters_by_role),
            "characters": {
                "total": sum(ordered),
                "median": _quantile(ordered, 0.5),
                "p90": _quantile(ordered, 0.9),
                "max": ordered[-1] if ordered else 0,
            },
            "characters_histogram": _histogram(ordered),
        }


def _quantile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def _histogram(ordered: list[int]) -> list[list[int]]:
    """Bins of equal width up to the 99th percentile; the last one takes the rest."""
    if not ordered:
        return []
    low, high = ordered[0], _quantile(ordered, 0.99)
    width = max(1, -(-(high - low + 1) // _BINS))
    counts = Counter(min((value - low) // width, _BINS - 1) for value in ordered)
    last = max(counts)
    bins = [[low + n * width, low + (n + 1) * width - 1, counts[n]] for n in range(last + 1)]
    bins[-1][1] = max(bins[-1][1], ordered[-1])
    return bins
