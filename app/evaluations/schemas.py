"""Bodies of the evaluation endpoints. Knows no rule."""

from typing import Any

from app.kit.schemas import Moment, Schema


class EvaluationOut(Schema):
    """A suite's result: ``metrics`` by name with base, tuned, difference, n and which is better."""

    id: str
    run: str
    suite: str
    n: int
    step: int | None
    metrics: dict[str, Any]
    created_at: Moment


class EvaluationList(Schema):
    """The evaluations of a run."""

    items: list[EvaluationOut]


class ItemOut(Schema):
    """One held-out example with both models' answers and scores."""

    index: int
    line: int
    prompt: list[Any]
    expected: str
    base_output: str
    tuned_output: str
    base_scores: dict[str, Any]
    tuned_scores: dict[str, Any]


class ItemList(Schema):
    """A page of items, in the order of the suite."""

    items: list[ItemOut]
    next: str | None
    total: int
