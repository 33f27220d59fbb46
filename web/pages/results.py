"""The result of a run in one line: base against tuned, with its interval. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from web import filters

# Which measure stands for the run: the first of these that was measured.
HEADLINES: Mapping[str, str] = {
    "preference_accuracy": "Prefers the better",
    "reward_accuracy": "Reward accuracy",
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "rouge_l": "ROUGE-L",
    "loss": "Loss",
}
_SHARES = frozenset(
    {"preference_accuracy", "reward_accuracy", "exact_match", "token_f1", "rouge_l"}
)


@dataclass(frozen=True)
class Result:
    """A headline and a line below it."""

    title: str
    detail: str
    is_bad: bool = False


def result_of_run(summary: Mapping[str, Any], report: Mapping[str, Any] | None) -> Result:
    """Return what a run achieved: its evaluation, else its loss, else that it ended."""
    measured = (report or {}).get("metrics", {})
    for name, label in HEADLINES.items():
        if name in measured:
            return _evaluated(name, label, measured[name])
    loss = summary.get("eval/loss", summary.get("best_eval_loss"))
    if loss is not None:
        return Result(f"Validation loss {filters.loss(loss)}", "not evaluated against its base")
    return Result("Done", "not evaluated")


def _evaluated(name: str, label: str, measure: Mapping[str, Any]) -> Result:
    base, tuned = measure["base"]["value"], measure["tuned"]["value"]
    difference = measure.get("difference") or {}
    low, high = difference.get("low"), difference.get("high")
    title = f"{label} {shown(name, base)} → {shown(name, tuned)}"
    if low is None or high is None or base is None or tuned is None:
        return Result(title, "")
    digits = 1 if name in _SHARES else 3
    factor = 100 if name in _SHARES else 1
    span = f"{filters.signed(low * factor, digits)} to {filters.signed(high * factor, digits)}"
    if low <= 0 <= high:
        return Result(title, f"No difference found: {span}")
    gain = filters.signed(difference["value"] * factor, digits)
    return Result(title, f"{gain}, interval {span}")


def shown(name: str, value: float | None) -> str:
    """Return a measure's value: shares of 1 as percent, the others as losses."""
    return filters.percent(value, 1) if name in _SHARES else filters.loss(value)
