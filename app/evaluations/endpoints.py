"""HTTP of evaluations: a report and its items. Knows no rule."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.dependencies import CurrentUser, PageParams, SessionDep
from app.evaluations import service
from app.evaluations.models import Evaluation
from app.evaluations.schemas import EvaluationOut, ItemList, ItemOut

router = APIRouter(tags=["evaluations"])


def evaluation_out(evaluation: Evaluation) -> EvaluationOut:
    """Return the evaluation as the API shows it."""
    report = evaluation.report
    return EvaluationOut(
        id=evaluation.id,
        run=evaluation.run_id,
        suite=evaluation.suite,
        n=int(report.get("n", 0)),
        step=report.get("step"),
        metrics=report.get("metrics", {}),
        created_at=evaluation.created_at,
    )


@router.get("/evaluations/{evaluation_id}")
def get_evaluation(session: SessionDep, _actor: CurrentUser, evaluation_id: str) -> EvaluationOut:
    """Return a suite's result, base against tuned."""
    return evaluation_out(service.get(session, evaluation_id=evaluation_id))


@router.get("/evaluations/{evaluation_id}/items")
def list_items(
    session: SessionDep,
    _actor: CurrentUser,
    page: PageParams,
    evaluation_id: str,
    which: Annotated[Literal["gained", "lost", "wrong"] | None, Query()] = None,
) -> ItemList:
    """Return the examples with both answers: all, or those gained, lost or wrong when tuned."""
    found = service.items(session, evaluation_id=evaluation_id, page=page, which=which)
    return ItemList(
        items=[ItemOut.model_validate(item) for item in found.items],
        next=found.next,
        total=found.total,
    )
