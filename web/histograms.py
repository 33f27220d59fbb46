"""Histograms as pages show them: counts in bins, by series, stacked. Pure; knows no page.

Bins come as [low, high, count] with both ends included, as statistics store them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Bins = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Series:
    """One part of the bars: its name, its colour (1 to 6) and its count in each bin."""

    label: str
    colour: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Histogram:
    """Counts in bins; bin n holds values from ``edges[n]`` to below ``edges[n + 1]``."""

    title: str
    unit: str
    edges: tuple[int, ...]
    series: tuple[Series, ...]
    cut: int | None = None

    @property
    def low(self) -> int:
        """Return the smallest value."""
        return self.edges[0]

    @property
    def high(self) -> int:
        """Return the largest value."""
        return self.edges[-1] - 1

    @property
    def totals(self) -> tuple[int, ...]:
        """Return the count of each bin over all series."""
        return tuple(map(sum, zip(*(one.counts for one in self.series), strict=True)))

    @property
    def spoken(self) -> str:
        """Say in a sentence what the picture shows."""
        total = sum(self.totals)
        most = max(range(len(self.totals)), key=self.totals.__getitem__)
        fullest = f"{self.edges[most]:,} to {self.edges[most + 1] - 1:,}"
        return (
            f"{self.title}: {total:,} from {self.low:,} to {self.high:,} {self.unit}, "
            f"most from {fullest}"
        )

    @property
    def data(self) -> str:
        """Return what the script draws, as JSON."""
        series = [
            {"label": one.label, "colour": one.colour, "counts": one.counts} for one in self.series
        ]
        shown = {"edges": self.edges, "unit": self.unit, "series": series, "cut": self.cut}
        return json.dumps(shown)


def histogram(
    title: str, unit: str, parts: Mapping[str, Bins], *, cut: int | None = None
) -> Histogram | None:
    """Return the histogram of series over the same bins; None if there is nothing to show."""
    filled = {label: bins for label, bins in parts.items() if bins}
    if not filled:
        return None
    longest = max(filled.values(), key=len)
    edges = (*(low for low, _, _ in longest), longest[-1][1] + 1)
    places = {low: place for place, (low, _, _) in enumerate(longest)}
    series: list[Series] = []
    for number, (label, bins) in enumerate(filled.items()):
        counts = [0] * len(longest)
        for low, _, count in bins:
            counts[places[low]] += count
        series.append(Series(label, number % 6 + 1, tuple(counts)))
    return Histogram(title, unit, edges, tuple(series), cut)
