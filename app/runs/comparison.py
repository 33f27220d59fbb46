"""Runs side by side: settings that differ, figures, and whether a difference is more than chance.

Pure but for the rows it is given. Differences are paired: the same items, answered by both. Yes or
no is judged by McNemar's exact test, other scores by the bootstrap over items. "No difference
found" is never "the same": ``detectable`` says what so many items could have shown.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from app.evaluations import significance
from app.evaluations.models import Evaluation, EvaluationItem
from app.runs import presets
from app.runs.repository import RunRow
from app.runs.spec import RunSpec

BASE = "base"
EXACT = "exact_match"
Z_TWO_SIDED, Z_POWER = 1.96, 0.8416  # 5 % error, 80 % power
MOST_FLIPPED = 200
LABELS = "ABCDEFGH"


@dataclass(frozen=True)
class ComparedRun:
    """A run of the comparison; ``label`` is its letter on the page."""

    id: str
    label: str
    number: int
    name: str
    status: str
    dataset: str
    base_model: str


@dataclass(frozen=True)
class Difference:
    """A setting and its value in each run, by run id."""

    field: str
    values: dict[str, Any]

    @property
    def differs(self) -> bool:
        """Tell whether the runs disagree."""
        return len({json.dumps(value, sort_keys=True) for value in self.values.values()}) > 1


@dataclass(frozen=True)
class Paired:
    """How ``b`` differs from ``a`` (a run id or ``base``) on ``n`` common items."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float | None
    test: str
    detectable: float | None
    n: int
    changed: int

    @property
    def is_clear(self) -> bool:
        """Tell whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of a suite; values are {value, low, high}, by run id."""

    suite: str
    metric: str
    better: str
    n: int
    base: dict[str, Any] | None
    values: dict[str, dict[str, Any] | None]
    paired: list[Paired]


@dataclass(frozen=True)
class Flipped:
    """An item that one answers rightly and another wrongly; keys are run ids and ``base``."""

    line: int
    prompt: list[Any]
    expected: str
    outputs: dict[str, str]
    right: dict[str, bool]


@dataclass(frozen=True)
class Comparison:
    """All of it; ``identical`` are the settings that all runs share."""

    runs: list[ComparedRun]
    config_differences: list[Difference]
    identical: list[Difference]
    metrics: dict[str, dict[str, float | None]]
    evaluations: list[ComparedMetric]
    flipped: list[Flipped]
    notes: list[str]


Answers = dict[str, EvaluationItem]  # by what was asked and expected


def compare(
    rows: Sequence[RunRow],
    evaluations: Sequence[Evaluation],
    items: Mapping[str, Sequence[EvaluationItem]],
) -> Comparison:
    """Set ``rows`` side by side; ``items`` are by evaluation id."""
    settings = _settings(rows)
    answers = {one.run_id: _answers(items[one.id]) for one in evaluations if one.suite == "heldout"}
    return Comparison(
        runs=[_compared(row, LABELS[place]) for place, row in enumerate(rows)],
        config_differences=[one for one in settings if one.differs],
        identical=[one for one in settings if not one.differs],
        metrics=_metrics(rows),
        evaluations=list(_evaluations([row.run.id for row in rows], evaluations, items)),
        flipped=_flipped([row.run.id for row in rows], answers),
        notes=list(_notes(rows, answers)),
    )


def _compared(row: RunRow, label: str) -> ComparedRun:
    return ComparedRun(
        id=row.run.id,
        label=label,
        number=row.job.number,
        name=row.run.name,
        status=row.job.status,
        dataset=f"{row.dataset.name} v{row.version.number}",
        base_model=row.base_model.name,
    )


def _settings(rows: Sequence[RunRow]) -> list[Difference]:
    by_run = {row.run.id: _settings_of(row) for row in rows}
    fields = list(dict.fromkeys(field for values in by_run.values() for field in values))
    return [
        Difference(field, {run_id: values.get(field) for run_id, values in by_run.items()})
        for field in fields
    ]


def _settings_of(row: RunRow) -> dict[str, Any]:
    spec = RunSpec.model_validate(row.run.spec)
    config = {
        field: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        for field, value in presets.flat(spec.config).items()
    }
    return {
        "dataset": f"{row.dataset.name} v{row.version.number}",
        "base_model": row.base_model.name,
        "preset": str(spec.preset),
        **config,
        "resources.kind": spec.resources.kind,
        "steps": row.job.total_steps,
    }


def _metrics(rows: Sequence[RunRow]) -> dict[str, dict[str, float | None]]:
    names = sorted({name for row in rows for name in row.run.summary})
    return {
        name: {row.run.id: _number(row.run.summary.get(name)) for row in rows} for name in names
    }


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _answers(items: Sequence[EvaluationItem]) -> Answers:
    """Return items by what was asked and expected; of equal ones by their turn."""
    found: Answers = {}
    turns: dict[str, int] = {}
    for item in items:
        asked = json.dumps([item.prompt, item.expected], sort_keys=True)
        turns[asked] = turns.get(asked, 0) + 1
        found[f"{asked}#{turns[asked]}"] = item
    return found


def _evaluations(
    run_ids: Sequence[str],
    evaluations: Sequence[Evaluation],
    items: Mapping[str, Sequence[EvaluationItem]],
) -> Iterator[ComparedMetric]:
    for suite in sorted({one.suite for one in evaluations}):
        of_run = {one.run_id: one for one in evaluations if one.suite == suite}
        answers = {run_id: _answers(items[one.id]) for run_id, one in of_run.items()}
        names = dict.fromkeys(name for one in of_run.values() for name in _measured(one))
        for metric in names:
            yield _metric(suite, metric, run_ids=run_ids, of_run=of_run, answers=answers)


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.report.get("metrics", {})


def _metric(
    suite: str,
    metric: str,
    *,
    run_ids: Sequence[str],
    of_run: Mapping[str, Evaluation],
    answers: Mapping[str, Answers],
) -> ComparedMetric:
    found = {run_id: _measured(one).get(metric) for run_id, one in of_run.items()}
    known = [one for one in found.values() if one]
    bases = {json.dumps(one.get("base"), sort_keys=True) for one in known}
    return ComparedMetric(
        suite=suite,
        metric=metric,
        better=str(known[0].get("better", "higher")),
        n=max(int(one.get("n", 0)) for one in known),
        base=known[0].get("base") if len(bases) == 1 else None,
        values={run_id: (found.get(run_id) or {}).get("tuned") for run_id in run_ids},
        paired=list(_all_paired(metric, run_ids=run_ids, found=found, answers=answers)),
    )


def _all_paired(
    metric: str,
    *,
    run_ids: Sequence[str],
    found: Mapping[str, Any],
    answers: Mapping[str, Answers],
) -> Iterator[Paired]:
    measured = [run_id for run_id in run_ids if found.get(run_id)]
    for run_id in measured:
        yield _against_base(metric, run_id, found[run_id], answers.get(run_id, {}))
    for a, b in combinations(measured, 2):
        first, second = answers.get(a, {}), answers.get(b, {})
        common = [key for key in first if key in second]
        pairs = [
            (first[key].tuned_scores.get(metric), second[key].tuned_scores.get(metric))
            for key in common
        ]
        result = _paired(a, b, pairs)
        if result is not None:
            yield result


def _against_base(metric: str, run_id: str, report: Mapping[str, Any], answers: Answers) -> Paired:
    """Return the trainer's own interval, with the test of the items where they have scores."""
    pairs = [
        (item.base_scores.get(metric), item.tuned_scores.get(metric)) for item in answers.values()
    ]
    tested = _paired(BASE, run_id, pairs)
    told = report.get("difference") or {}
    return Paired(
        a=BASE,
        b=run_id,
        difference=told.get("value") or 0.0,
        low=told.get("low") or 0.0,
        high=told.get("high") or 0.0,
        p_value=tested.p_value if tested else None,
        test=tested.test if tested else "bootstrap",
        detectable=tested.detectable if tested else None,
        n=int(report.get("n", 0)),
        changed=tested.changed if tested else 0,
    )


def _paired(a: str, b: str, pairs: Sequence[tuple[Any, Any]]) -> Paired | None:
    """Return how the second of each pair differs from the first; None without scores."""
    scored = [
        (float(x), float(y))
        for x, y in pairs
        if isinstance(x, int | float) and isinstance(y, int | float)
    ]
    if not scored:
        return None
    before, after = [x for x, _ in scored], [y for _, y in scored]
    estimate = significance.mean_difference(before, after)
    yes_no = all(value in (0.0, 1.0) for pair in scored for value in pair)
    gained = sum(y > x for x, y in scored)
    lost = sum(y < x for x, y in scored)
    low, high = estimate.low, estimate.high
    if yes_no:
        low, high = difference_of_shares(gained, lost, len(scored))
    return Paired(
        a=a,
        b=b,
        difference=estimate.value,
        low=low,
        high=high,
        p_value=mcnemar(gained, lost) if yes_no else None,
        test="mcnemar" if yes_no else "bootstrap",
        detectable=detectable([y - x for x, y in scored]),
        n=len(scored),
        changed=gained + lost,
    )


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value that as many were gained as lost."""
    changed, fewer = gained + lost, min(gained, lost)
    if not changed:
        return 1.0
    tail = sum(math.comb(changed, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**changed)


def difference_of_shares(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a paired difference of shares (Agresti and Min, 2005).

    Half an item is added to each of the four cells, so that few changes claim no certainty.
    """
    more, less, total = gained + 0.5, lost + 0.5, n + 2.0
    middle = (more - less) / total
    spread = math.sqrt(max(0.0, (more + less) - (more - less) ** 2 / total)) / total
    return max(-1.0, middle - Z_TWO_SIDED * spread), min(1.0, middle + Z_TWO_SIDED * spread)


def detectable(differences: Sequence[float]) -> float | None:
    """Return the smallest mean difference that so many items show 4 times in 5, or None.

    By the spread of the differences seen; where there is none it takes one changed item.
    """
    n = len(differences)
    if n < 2:  # noqa: PLR2004  # no spread
        return None
    middle = sum(differences) / n
    variance = sum((one - middle) ** 2 for one in differences) / (n - 1)
    return (Z_TWO_SIDED + Z_POWER) * math.sqrt(max(variance, 1 / n) / n)


def _flipped(run_ids: Sequence[str], answers: Mapping[str, Answers]) -> list[Flipped]:
    measured = [run_id for run_id in run_ids if run_id in answers]
    if not measured:
        return []
    first = answers[measured[0]]
    found: list[Flipped] = []
    for key, item in first.items():
        of_run = {run_id: answers[run_id][key] for run_id in measured if key in answers[run_id]}
        right = {BASE: _right(item.base_scores)} | {
            run_id: _right(one.tuned_scores) for run_id, one in of_run.items()
        }
        if len(set(right.values())) > 1 and len(found) < MOST_FLIPPED:
            outputs = {BASE: item.base_output} | {r: one.tuned_output for r, one in of_run.items()}
            found.append(Flipped(item.line, item.prompt, item.expected, outputs, right))
    return found


def _right(scores: Mapping[str, Any]) -> bool:
    return scores.get(EXACT) == 1


def _notes(rows: Sequence[RunRow], answers: Mapping[str, Answers]) -> Iterator[str]:
    for row in rows:
        if row.run.id not in answers:
            yield f"{row.run.name} has no evaluation; its curves and settings are still compared."
    sets = [set(found) for found in answers.values()]
    if len(sets) > 1:
        common = set.intersection(*sets)
        if any(len(one) != len(common) for one in sets):
            yield (
                f"The runs share {len(common):,} questions; differences between runs are on those. "
                "Use the same dataset version, seed and validation share to compare all."
            )
