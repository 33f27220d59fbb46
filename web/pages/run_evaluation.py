"""The evaluation on a run's page: the table base against tuned, and the answers behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sqlalchemy.orm import Session

from app.evaluations import scoring
from app.evaluations import service as evaluations
from app.evaluations.models import Evaluation, EvaluationItem
from app.evaluations.scoring import PICKED
from app.jobs.state import JobStatus
from app.kit.pagination import PageRequest
from app.runs.views import RunView
from web import words
from web.pages.measures import EvaluationRow, resolution, rows_of

ITEMS_SHOWN = 5
Which = Literal["all", "gained", "lost", "wrong"]


@dataclass(frozen=True)
class Answer:
    """A model's answer, word by word against the expected one, or the one that it picks."""

    who: str
    pieces: tuple[words.Piece, ...]
    is_right: bool | None
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Item:
    """One held-out example with both answers; ``picks``: of a model that writes none."""

    line: int
    picks: bool
    prompt: tuple[tuple[str, str], ...]
    expected: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Items:
    """Answers, a few at a time."""

    template: ClassVar[str] = "runs/_items.html"
    run_id: str
    which: Which
    items: tuple[Item, ...]
    total: int
    counts: Mapping[str, int]
    next: str | None
    is_first: bool


@dataclass(frozen=True)
class EvaluationCard:
    """The evaluation of a run, or why there is none yet."""

    template: ClassVar[str] = "runs/_evaluation.html"
    view: RunView
    found: Evaluation | None
    rows: tuple[EvaluationRow, ...]
    n: int
    step: int | None
    resolution: str | None
    why_not: str
    items: Items | None


def evaluation_of(session: Session, view: RunView) -> EvaluationCard:
    """Gather the evaluation card."""
    all_found: Sequence[Evaluation] = evaluations.of_run(session, run_id=view.run.id)
    found = next(iter(all_found), None)
    if found is None:
        return EvaluationCard(view, None, (), 0, None, None, _why_not(view), None)
    report = found.report
    measured = report.get("metrics", {})
    return EvaluationCard(
        view=view,
        found=found,
        rows=rows_of(measured),
        n=int(report.get("n", 0)),
        step=report.get("step"),
        resolution=resolution(measured),
        why_not="",
        items=items_of(session, found, which="all", page=PageRequest(ITEMS_SHOWN)),
    )


def _why_not(view: RunView) -> str:
    if not view.spec.config.data.validation_fraction:
        return "No examples are held out in this run, so nothing can be measured."
    if view.status is JobStatus.SUCCEEDED:
        return "This run ended before it was evaluated."
    if view.status in {JobStatus.FAILED, JobStatus.CANCELLED}:
        return "Only a run that ends well is evaluated."
    return "After training, base and tuned model answer the held-out examples. It appears here."


def items_of(session: Session, evaluation: Evaluation, *, which: Which, page: PageRequest) -> Items:
    """Gather some answers: all, or those gained, lost or wrong when tuned."""
    wanted = None if which == "all" else which
    found = evaluations.items(session, evaluation_id=evaluation.id, page=page, which=wanted)
    return Items(
        run_id=evaluation.run_id,
        which=which,
        items=tuple(_item(row) for row in found.items),
        total=found.total,
        counts=_counts(session, evaluation),
        next=found.next,
        is_first=page.cursor is None,
    )


def _counts(session: Session, evaluation: Evaluation) -> dict[str, int]:
    page = PageRequest(limit=1)
    return {
        which: evaluations.items(
            session,
            evaluation_id=evaluation.id,
            page=page,
            which=None if which == "all" else which,
        ).total
        for which in ("all", "gained", "lost", "wrong")
    }


def _item(row: EvaluationItem) -> Item:
    return Item(
        line=row.line,
        picks=PICKED in row.tuned_scores,
        prompt=prompt_of(row.prompt),
        expected=row.expected,
        answers=(
            _answer("Base", row.expected, row.base_output, row.base_scores),
            _answer("Tuned", row.expected, row.tuned_output, row.tuned_scores),
        ),
    )


def prompt_of(messages: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """Return (role, text) of each message."""
    return tuple(
        (str(one.get("role", "")), str(one.get("content") or ""))
        for one in messages
        if isinstance(one, dict)
    )


def _answer(who: str, expected: str, output: str, scores: Mapping[str, Any]) -> Answer:
    return Answer(
        who,
        words.compared(output if PICKED in scores else expected, output),
        scoring.verdict(scores),
        {name: value for name, value in scores.items() if isinstance(value, int | float)},
    )
