"""Two to eight runs side by side. The address holds the selection, so a link shows the same.

Translation only: ``app.runs.service.compare`` computes, ``compare_view`` shapes.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from app.dependencies import CurrentUser, SessionDep
from app.errors import AppError, Invalid
from app.kit.pagination import PageRequest
from app.runs import service
from app.runs.comparison import BASE, Comparison
from app.runs.repository import Wanted
from app.runs.views import RunView
from web.htmx import HtmxDep
from web.pages import compare_view
from web.pages.compare_view import ANSWERS_SHOWN, Chip, ConfigRow, Pair, Question, Row
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/compare")

_OFFERED = 30
_MOST = service.COMPARED[1]


@dataclass(frozen=True)
class Choice:
    """Runs to choose from, with those chosen already."""

    template: ClassVar[str] = "compare/_choice.html"
    offered: tuple[RunView, ...]
    chosen: tuple[str, ...]
    q: str


@dataclass(frozen=True)
class ChoicePage:
    """What is shown until there are two runs to compare."""

    template: ClassVar[str] = "compare/choose.html"
    choice: Choice
    message: str


@dataclass(frozen=True)
class Answers:
    """The answers that changed, a few at a time."""

    template: ClassVar[str] = "compare/_answers.html"
    questions: tuple[Question, ...]
    options: tuple[tuple[str, str], ...]
    show: str
    total: int
    all_changed: int
    page: int
    has_more: bool
    run_ids: str
    against: str


@dataclass(frozen=True)
class ComparePage:
    """The comparison."""

    template: ClassVar[str] = "compare/index.html"
    comparison: Comparison
    chips: tuple[Chip, ...]
    run_ids: tuple[str, ...]
    against: str
    references: tuple[tuple[str, str, str], ...]
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    pairs_left_out: int
    deciding: str
    detectable: tuple[int, str] | None
    curves: str
    differing: tuple[ConfigRow, ...]
    identical: tuple[ConfigRow, ...]
    answers: Answers
    may_add: bool


RunsParam = Annotated[list[str], Query(alias="runs")]


@router.get("", name="pages.compare")
def index(
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    runs: RunsParam = [],  # noqa: B006  # FastAPI copies it
    against: str = BASE,
    show: str = "",
    page: Annotated[int, Query(ge=1, le=1000)] = 1,
) -> Response:
    """The comparison, or the choice of runs."""
    del actor
    run_ids = split(runs)
    if len(run_ids) < service.COMPARED[0]:
        message = "Choose at least one more run." if run_ids else ""
        return render(ChoicePage(_choice(session, run_ids, ""), message), shell)
    try:
        comparison = service.compare(session, run_ids=run_ids)
    except Invalid as error:
        message = _said(error)
        known = _known(session, run_ids)[:_MOST]
        return render(ChoicePage(_choice(session, known, ""), message), shell, status=422)
    chosen = against if against in run_ids else BASE
    return render(_page(session, comparison, chosen, show=show, page=page), shell)


def split(runs: list[str]) -> list[str]:
    """Return run ids from ``runs=a,b`` and from ``runs=a&runs=b``, each once, in order."""
    return list(
        dict.fromkeys(one.strip() for text in runs for one in text.split(",") if one.strip())
    )


def _said(error: AppError) -> str:
    text = error.errors[0].message if error.errors else error.detail
    return text[:1].upper() + text[1:] + "."


def _known(session: Session, run_ids: list[str]) -> list[str]:
    found: list[str] = []
    for run_id in run_ids[:_OFFERED]:
        try:
            found.append(service.get(session, run_id).id)
        except AppError:
            continue
    return found


def _choice(session: Session, chosen: list[str], q: str) -> Choice:
    wanted = Wanted(q=q.strip() or None)
    recent = service.list_runs(session, wanted=wanted, page=PageRequest(limit=_OFFERED)).items
    listed = {view.run.id for view in recent}
    first = [service.get_view(session, one) for one in _known(session, chosen) if one not in listed]
    return Choice((*first, *recent), tuple(chosen), q)


def _page(
    session: Session, comparison: Comparison, against: str, *, show: str, page: int
) -> ComparePage:
    ids = tuple(run.id for run in comparison.runs)
    chips = compare_view.chips_of(session, comparison)
    pairs, left_out = compare_view.pairs_of(comparison, chips, against=against)
    references = [(BASE, "Base"), *((chip.run.id, chip.run.label) for chip in chips)]
    return ComparePage(
        comparison=comparison,
        chips=chips,
        run_ids=ids,
        against=against,
        references=tuple(
            (key, text, compare_view.address(ids, against="" if key == BASE else key, show=show))
            for key, text in references
        ),
        rows=compare_view.rows_of(comparison, against=against),
        pairs=pairs,
        pairs_left_out=left_out,
        deciding=compare_view.deciding_of(comparison),
        detectable=compare_view.detectable_of(comparison, against=against),
        curves=compare_view.curves_of(chips),
        differing=compare_view.settings_of(comparison.config_differences, ids),
        identical=compare_view.settings_of(comparison.identical, ids),
        answers=_answers(comparison, chips, against, show=show, page=page),
        may_add=len(ids) < _MOST,
    )


def _answers(
    comparison: Comparison, chips: tuple[Chip, ...], against: str, *, show: str, page: int
) -> Answers:
    left = compare_view.shown(comparison.flipped, show)
    first = (page - 1) * ANSWERS_SHOWN
    return Answers(
        questions=tuple(
            compare_view.question_of(one, chips) for one in left[first : first + ANSWERS_SHOWN]
        ),
        options=tuple(compare_view.filters_of(chips, comparison.flipped)),
        show=show,
        total=len(left),
        all_changed=len(comparison.flipped),
        page=page,
        has_more=len(left) > first + ANSWERS_SHOWN,
        run_ids=",".join(chip.run.id for chip in chips),
        against=against,
    )


@router.get("/choice", name="pages.compare_choice")
def choice(
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    htmx: HtmxDep,
    runs: RunsParam = [],  # noqa: B006  # FastAPI copies it
    q: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Runs to add or take out: a dialog, or a page without scripts."""
    del actor
    dialog = _choice(session, split(runs), q)
    return render(dialog if htmx.wants_fragment else ChoicePage(dialog, ""), shell)
