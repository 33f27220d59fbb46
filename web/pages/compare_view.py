"""What the comparison shows: runs with their marks, figures against one of them, settings, answers.

Reads through ``app.runs.service``; computes no statistics.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from app.runs import service
from app.runs.comparison import (
    BASE,
    ComparedMetric,
    ComparedRun,
    Comparison,
    Difference,
    Flipped,
    Paired,
)
from app.runs.views import RunView
from web import svg, words
from web.filters import plain
from web.pages.measures import Measure, Reading, deciding, in_order, measure_of, reading
from web.pages.run_evaluation import prompt_of

ANSWERS_SHOWN = 5
_PAIRS_SHOWN = 6


@dataclass(frozen=True)
class Chip:
    """A run of the comparison: its letter, its mark (1…8), and the address without it."""

    run: ComparedRun
    view: RunView
    mark: int
    best: float | None
    without: str


@dataclass(frozen=True)
class Cell:
    """A run's figure in a row, and how it differs from the reference."""

    value: str
    difference: str
    span: str
    reading: Reading | None


@dataclass(frozen=True)
class Row:
    """One metric over all runs; ``plot`` has an interval for each run that has a difference."""

    measure: Measure
    n: int
    base: str
    cells: tuple[Cell, ...]
    plot: svg.IntervalPlot
    marks: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """How one run differs from another in the deciding measure."""

    over: Chip
    under: Chip
    difference: str
    span: str
    reading: Reading
    place: svg.Interval
    zero: float | None
    changed: int
    p_value: str


@dataclass(frozen=True)
class ConfigCell:
    """A setting's value in one run; ``is_odd`` if most others have another."""

    text: str
    is_odd: bool


@dataclass(frozen=True)
class ConfigRow:
    """A setting over all runs."""

    field: str
    cells: tuple[ConfigCell, ...]


@dataclass(frozen=True)
class Answer:
    """What one model answered, word by word against what was expected."""

    who: str
    mark: int
    pieces: tuple[words.Piece, ...]
    is_right: bool


@dataclass(frozen=True)
class Question:
    """A held-out example that some got right and some wrong."""

    line: int
    prompt: tuple[tuple[str, str], ...]
    expected: str
    answers: tuple[Answer, ...]


def address(run_ids: Sequence[str], **state: str) -> str:
    """Return the address of a comparison; it holds all that is chosen."""
    more = "".join(f"&{name}={value}" for name, value in state.items() if value)
    return f"/compare?runs={','.join(run_ids)}{more}"


def chips_of(session: Session, comparison: Comparison) -> tuple[Chip, ...]:
    """Return the runs with their marks."""
    ids = [run.id for run in comparison.runs]
    return tuple(
        Chip(
            run=run,
            view=service.get_view(session, run.id),
            mark=place,
            best=comparison.metrics.get("best_eval_loss", {}).get(run.id),
            without=address([other for other in ids if other != run.id]),
        )
        for place, run in enumerate(comparison.runs, start=1)
    )


def rows_of(comparison: Comparison, *, against: str) -> tuple[Row, ...]:
    """Return the table of figures; differences are to ``against`` (a run id or ``base``)."""
    by_name = {one.metric: one for one in comparison.evaluations}
    ids = [run.id for run in comparison.runs]
    return tuple(_row(by_name[name], ids, against) for name in in_order(list(by_name)))


def _row(metric: ComparedMetric, ids: Sequence[str], against: str) -> Row:
    measure = measure_of(metric.metric)
    found = [_difference(metric.paired, against, run_id) for run_id in ids]
    shown = [(place, one) for place, one in enumerate(found, start=1) if one is not None]
    reference = metric.base if against == BASE else metric.values.get(against)
    return Row(
        measure=measure,
        n=metric.n,
        base=measure.shown((reference or {}).get("value")),
        cells=tuple(
            _cell(measure, metric, run_id, one) for run_id, one in zip(ids, found, strict=True)
        ),
        plot=svg.intervals([(one[1], one[0], one[2]) for _, one in shown]),
        marks=tuple(place for place, _ in shown),
    )


def _difference(
    paired: Sequence[Paired], against: str, run_id: str
) -> tuple[float, float, float] | None:
    """Return (difference, low, high) of a run to the reference, whichever way it was paired."""
    for one in paired:
        if (one.a, one.b) == (against, run_id):
            return one.difference, one.low, one.high
        if (one.b, one.a) == (against, run_id):
            return -one.difference, -one.high, -one.low
    return None


def _cell(
    measure: Measure,
    metric: ComparedMetric,
    run_id: str,
    found: tuple[float, float, float] | None,
) -> Cell:
    value = measure.shown((metric.values.get(run_id) or {}).get("value"))
    if found is None:
        return Cell(value, "", "", None)
    difference, low, high = found
    return Cell(
        value,
        measure.difference(difference),
        f"{measure.difference(low)} to {measure.difference(high)}",
        reading(low, high, better=metric.better),
    )


def pairs_of(
    comparison: Comparison, chips: Sequence[Chip], *, against: str
) -> tuple[tuple[Pair, ...], int]:
    """Return the runs against each other by what decides, and how many pairs are left out."""
    metric = _deciding(comparison)
    if metric is None:
        return (), 0
    chip = {one.run.id: one for one in chips}
    between = [_upright(one) for one in metric.paired if BASE not in (one.a, one.b)]
    if against != BASE:
        between = [one for one in between if against in (one.a, one.b)]
    plot = svg.intervals([(one.low, one.difference, one.high) for one in between])
    pairs = tuple(
        _pair(one, chip, place, measure_of(metric.metric), plot.zero)
        for one, place in zip(between, plot.intervals, strict=True)
    )
    return pairs[:_PAIRS_SHOWN], max(0, len(pairs) - _PAIRS_SHOWN)


def deciding_of(comparison: Comparison) -> str:
    """Return the name of what calls an item right or wrong, as it stands in a sentence."""
    metric = _deciding(comparison)
    return measure_of(metric.metric).title.lower() if metric else ""


def _deciding(comparison: Comparison) -> ComparedMetric | None:
    by_name = {one.metric: one for one in comparison.evaluations}
    measure = deciding(by_name)
    return by_name[measure.name] if measure else None


def _upright(one: Paired) -> Paired:
    """Return the pair with the better run over the other."""
    if one.difference >= 0:
        return one
    turned = {"difference": -one.difference, "low": -one.high, "high": -one.low}
    return replace(one, a=one.b, b=one.a, **turned)


def _pair(
    one: Paired, chip: Mapping[str, Chip], place: svg.Interval, measure: Measure, zero: float | None
) -> Pair:
    p = one.p_value
    shown = "" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"  # noqa: PLR2004
    return Pair(
        over=chip[one.b],
        under=chip[one.a],
        difference=measure.difference(one.difference),
        span=f"{measure.difference(one.low)} to {measure.difference(one.high)}",
        reading=reading(one.low, one.high, better="higher"),
        place=place,
        zero=zero,
        changed=one.changed,
        p_value=shown,
    )


def detectable_of(comparison: Comparison, *, against: str) -> tuple[int, str] | None:
    """Return how many examples there are and the smallest difference that they can show."""
    metric = _deciding(comparison)
    known = [
        one.detectable
        for one in (metric.paired if metric else [])
        if one.detectable is not None and against in (one.a, one.b)
    ]
    if metric is None or not known:
        return None
    return metric.n, f"{max(known) * 100:.1f} points"


def settings_of(differences: Sequence[Difference], ids: Sequence[str]) -> tuple[ConfigRow, ...]:
    """Return settings over all runs, the odd ones marked."""
    return tuple(_config_row(one, ids) for one in differences)


def _config_row(one: Difference, ids: Sequence[str]) -> ConfigRow:
    keys = [json.dumps(one.values.get(run_id), sort_keys=True) for run_id in ids]
    usual, _ = Counter(keys).most_common(1)[0]
    cells = tuple(
        ConfigCell(_setting(one.values.get(run_id)), key != usual)
        for run_id, key in zip(ids, keys, strict=True)
    )
    return ConfigRow(one.field, cells)


def _setting(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else plain(value)


def curves_of(chips: Sequence[Chip]) -> str:
    """Return what the charts draw, as ``data-runs`` wants it."""
    return json.dumps(
        [
            {
                "id": chip.run.id,
                "job": chip.view.job.id,
                "label": chip.run.label,
                "name": chip.run.name,
                "mark": chip.mark,
                "total": chip.view.job.total_steps,
            }
            for chip in chips
        ]
    )


def filters_of(chips: Sequence[Chip], flipped: Sequence[Flipped]) -> list[tuple[str, str]]:
    """Return what may be shown of the changed answers: (value, text with its count)."""
    options = [("", f"All that changed, {len(flipped):,}")]
    for chip in chips:
        for kind, text in (("gained", "Base wrong, {} right"), ("lost", "Base right, {} wrong")):
            value = f"{kind}-{chip.run.id}"
            count = len(shown(flipped, value))
            options.append((value, f"{text.format(chip.run.label)}, {count:,}"))
    return options


def shown(flipped: Sequence[Flipped], value: str) -> list[Flipped]:
    """Return the changed answers that a filter leaves; an unknown filter leaves all."""
    kind, _, run_id = value.partition("-")
    if kind not in {"gained", "lost"}:
        return list(flipped)
    wanted = kind == "gained"
    return [
        one
        for one in flipped
        if one.right.get(run_id) is wanted and one.right.get(BASE) is not wanted
    ]


def question_of(one: Flipped, chips: Sequence[Chip]) -> Question:
    """Return a changed answer with what each model said."""
    known = [(BASE, "Base", 0), *((chip.run.id, chip.run.label, chip.mark) for chip in chips)]
    return Question(
        line=one.line,
        prompt=prompt_of(one.prompt),
        expected=one.expected,
        answers=tuple(
            Answer(who, mark, words.compared(one.expected, one.outputs[key]), one.right[key])
            for key, who, mark in known
            if key in one.outputs
        ),
    )
