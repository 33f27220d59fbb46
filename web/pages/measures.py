"""How metrics of an evaluation are named, formatted and read. Pure: knows no request, no database.

A difference counts as one only where its interval does not contain 0; else the reading is "no
difference found", never "same".
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.evaluations.scoring import VERDICTS
from web import svg
from web.filters import DASH, percent, signed


@dataclass(frozen=True)
class Measure:
    """A metric as a page shows it; a share is shown in percent, its difference in points."""

    name: str
    title: str
    note: str
    is_share: bool = False
    digits: int = 3

    def shown(self, value: float | None) -> str:
        """Return a value with its unit."""
        if value is None:
            return DASH
        return percent(value, 1) if self.is_share else f"{value:.{self.digits}f}"

    def difference(self, value: float | None) -> str:
        """Return a signed difference; of shares, in points."""
        if value is None:
            return DASH
        return signed(value * 100, 1) if self.is_share else signed(value, self.digits)


MEASURES = (
    Measure("exact_match", "Exact match", "the whole answer, normalised", is_share=True),
    Measure("token_f1", "Token F1", "words shared with the expected answer", is_share=True),
    Measure("rouge_l", "ROUGE-L", "longest common run of words", is_share=True),
    Measure("preference_accuracy", "Prefers the better", "finds it likelier", is_share=True),
    Measure("reward_accuracy", "Reward accuracy", "better answer valued higher", is_share=True),
    Measure("reward_margin", "Reward margin", "better answer over the worse", digits=2),
    Measure("loss", "Loss", "per trained token, lower is better"),
    Measure("perplexity", "Perplexity", "lower is better", digits=2),
)
_KNOWN = {measure.name: measure for measure in MEASURES}
_ORDER = {measure.name: place for place, measure in enumerate(MEASURES)}


def measure_of(name: str) -> Measure:
    """Return the measure of a metric; an unknown one is shown by its own name."""
    return _KNOWN.get(name) or Measure(name, name.replace("_", " ").capitalize(), "")


def in_order(names: Sequence[str]) -> list[str]:
    """Return metric names in the order of a page: quality first, loss after."""
    return sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))


@dataclass(frozen=True)
class Reading:
    """What a difference says: a word, a kind for its tag, a fill for its picture, a mark."""

    text: str
    kind: str
    fill: str
    mark: str


BETTER = Reading("better", "ok", "fcok", "▲")
WORSE = Reading("worse", "bad", "fcbad", "▼")
NOT_FOUND = Reading("no difference found", "", "fcq", "○")


def reading(low: float | None, high: float | None, *, better: str) -> Reading:
    """Return what an interval of a difference says."""
    if low is None or high is None or low <= 0 <= high:
        return NOT_FOUND
    return BETTER if (low > 0) == (better == "higher") else WORSE


@dataclass(frozen=True)
class EvaluationRow:
    """One metric, base against tuned, with the place of its interval."""

    measure: Measure
    n: int
    base: str
    tuned: str
    difference: str
    span: str
    reading: Reading
    place: svg.Interval
    zero: float | None


def rows_of(metrics: Mapping[str, Any]) -> tuple[EvaluationRow, ...]:
    """Return the rows of a report's ``metrics``."""
    return tuple(_row(name, metrics[name]) for name in in_order(list(metrics)))


def _row(name: str, values: Mapping[str, Any]) -> EvaluationRow:
    measure, between = measure_of(name), values["difference"]
    value, low, high = (between.get(key) for key in ("value", "low", "high"))
    plot = svg.intervals([(low or 0.0, value or 0.0, high or 0.0)])
    return EvaluationRow(
        measure=measure,
        n=int(values.get("n", 0)),
        base=measure.shown(values["base"].get("value")),
        tuned=measure.shown(values["tuned"].get("value")),
        difference=measure.difference(value),
        span=f"{measure.difference(low)} to {measure.difference(high)}",
        reading=reading(low, high, better=str(values.get("better", "higher"))),
        place=plot.intervals[0],
        zero=plot.zero,
    )


def deciding(names: Collection[str]) -> Measure | None:
    """Return the measure that calls an item right or wrong, of those that were taken."""
    return next((measure_of(name) for name in VERDICTS if name in names), None)


def resolution(metrics: Mapping[str, Any]) -> str | None:
    """Say how well a difference in the deciding measure is known, by its interval's half width."""
    measure = deciding(metrics)
    between = metrics[measure.name].get("difference", {}) if measure else {}
    low, high = between.get("low"), between.get("high")
    if measure is None or low is None or high is None or high <= low:
        return None
    return f"{measure.title.lower()} is known to about ± {(high - low) * 50:.1f} points"
