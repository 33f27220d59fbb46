"""Runs side by side: settings that differ, figures, and whether a difference is more than chance.

Pure: it is given plain values and knows no database. Differences are paired: the same items,
answered by both. Yes or no is judged by McNemar's exact test, other scores by the bootstrap over
items, from 100 items on by the normal distribution of their mean. "No difference found" is never
"the same": ``detectable`` says what so many items could have shown.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from app.evaluations import scoring
from app.runs import paired, presets
from app.runs.spec import RunSpec

BASE = "base"
MOST_FLIPPED = 200
LABELS = "ABCDEFGH"


@dataclass(frozen=True)
class Item:
    """A held-out example with both answers and their scores."""

    line: int
    prompt: list[Any]
    expected: str
    base_output: str
    tuned_output: str
    base_scores: Mapping[str, Any]
    tuned_scores: Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """A suite's result on a run: report.json's metrics, and the items."""

    suite: str
    metrics: Mapping[str, Any]
    items: Sequence[Item]


@dataclass(frozen=True)
class Subject:
    """A run as it is to be compared."""

    id: str
    number: int
    name: str
    status: str
    dataset: str
    base_model: str
    spec: RunSpec
    total_steps: int | None
    summary: Mapping[str, Any]
    measured: Sequence[Measured] = ()


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


Answers = dict[str, Item]  # by what was asked and expected


def compare(runs: Sequence[Subject]) -> Comparison:
    """Set ``runs`` side by side, in their order."""
    settings = _settings(runs)
    answers = _answers_of(runs, "heldout")
    return Comparison(
        runs=[_compared(run, LABELS[place]) for place, run in enumerate(runs)],
        config_differences=[one for one in settings if one.differs],
        identical=[one for one in settings if not one.differs],
        metrics=_metrics(runs),
        evaluations=list(_evaluations(runs)),
        flipped=_flipped([run.id for run in runs], answers),
        notes=list(_notes(runs, answers)),
    )


def _compared(run: Subject, label: str) -> ComparedRun:
    return ComparedRun(
        id=run.id,
        label=label,
        number=run.number,
        name=run.name,
        status=run.status,
        dataset=run.dataset,
        base_model=run.base_model,
    )


def _settings(runs: Sequence[Subject]) -> list[Difference]:
    by_run = {run.id: _settings_of(run) for run in runs}
    fields = list(dict.fromkeys(field for values in by_run.values() for field in values))
    return [
        Difference(field, {run_id: values.get(field) for run_id, values in by_run.items()})
        for field in fields
    ]


def _settings_of(run: Subject) -> dict[str, Any]:
    config = {
        field: value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        for field, value in presets.flat(run.spec.config).items()
    }
    return {
        "dataset": run.dataset,
        "base_model": run.base_model,
        "preset": str(run.spec.preset),
        **config,
        "resources.kind": run.spec.resources.kind,
        "steps": run.total_steps,
    }


def _metrics(runs: Sequence[Subject]) -> dict[str, dict[str, float | None]]:
    names = sorted({name for run in runs for name in run.summary})
    return {name: {run.id: _number(run.summary.get(name)) for run in runs} for name in names}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _answers_of(runs: Sequence[Subject], suite: str) -> dict[str, Answers]:
    """Return each measured run's items of a suite."""
    return {
        run.id: _answers(one.items) for run in runs for one in run.measured if one.suite == suite
    }


def _answers(items: Sequence[Item]) -> Answers:
    """Return items by what was asked and expected; of equal ones by their turn."""
    found: Answers = {}
    turns: dict[str, int] = {}
    for item in items:
        asked = json.dumps([item.prompt, item.expected], sort_keys=True)
        turns[asked] = turns.get(asked, 0) + 1
        found[f"{asked}#{turns[asked]}"] = item
    return found


def _evaluations(runs: Sequence[Subject]) -> Iterator[ComparedMetric]:
    run_ids = [run.id for run in runs]
    for suite in sorted({one.suite for run in runs for one in run.measured}):
        of_run = {run.id: one.metrics for run in runs for one in run.measured if one.suite == suite}
        answers = _answers_of(runs, suite)
        names = dict.fromkeys(name for metrics in of_run.values() for name in metrics)
        for metric in names:
            found = {run_id: metrics.get(metric) for run_id, metrics in of_run.items()}
            yield _metric(suite, metric, run_ids=run_ids, found=found, answers=answers)


def _metric(
    suite: str,
    metric: str,
    *,
    run_ids: Sequence[str],
    found: Mapping[str, Any],
    answers: Mapping[str, Answers],
) -> ComparedMetric:
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
    differences = [y - x for x, y in scored]
    gained, lost = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    yes_no = all(value in (0.0, 1.0) for pair in scored for value in pair)
    tested = paired.of_shares(gained, lost, len(scored)) if yes_no else paired.of_means(differences)
    return Paired(
        a=a,
        b=b,
        difference=sum(differences) / len(differences),
        low=tested.low,
        high=tested.high,
        p_value=tested.p_value,
        test=tested.name,
        detectable=paired.detectable(differences),
        n=len(scored),
        changed=gained + lost,
    )


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
    return scoring.verdict(scores) is True


def _other_rows(runs: Sequence[Subject]) -> Iterator[str]:
    """Say if the runs did not train and hold out the same rows."""
    if len({run.dataset for run in runs}) > 1:
        named = ", ".join(dict.fromkeys(run.dataset for run in runs))
        yield f"The runs used different rows ({named}): part of a difference may come from them."
    elif len({run.spec.config.data.split for run in runs}) > 1:
        yield "The runs used different splits: they neither trained nor held out the same rows."


def _notes(runs: Sequence[Subject], answers: Mapping[str, Answers]) -> Iterator[str]:
    for run in runs:
        if run.id not in answers:
            yield f"{run.name} has no evaluation; its curves and settings are still compared."
    yield from _other_rows(runs)
    sets = [set(found) for found in answers.values()]
    if len(sets) > 1:
        common = set.intersection(*sets)
        if any(len(one) != len(common) for one in sets):
            yield (
                f"The runs share {len(common):,} questions; differences between runs are on those. "
                "Use the same dataset version, seed and validation share to compare all."
            )
