"""What was measured of a run: stored from the trainer's files, read by pages and the API.

Knows no HTTP and no statistics: ``scoring`` and ``significance`` compute, the trainer writes.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.errors import NotFound
from app.evaluations import repository
from app.evaluations.models import Evaluation, EvaluationItem
from app.kit.ids import new_id
from app.kit.pagination import Page, PageRequest, encode_cursor
from app.kit.schemas import finite
from app.metrics import service as metrics

REPORT, ITEMS = "report.json", "items.jsonl"
_BATCH = 500


def store(session: Session, *, job_id: str, folder: Path) -> Evaluation | None:
    """Take ``report.json`` and ``items.jsonl`` of a job folder into the tables.

    Also writes the run's summary. Storing again replaces. Returns None where nothing was measured.
    """
    run_id = repository.run_of_job(session, job_id)
    if run_id is None or not (folder / REPORT).is_file():
        return None
    report: dict[str, Any] = _clean(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    last = metrics.last_values(session, job_id=job_id)
    repository.write_summary(session, run_id, finite(last) | (report.get("summary") or {}))
    if not report.get("metrics"):
        return None
    return _store_evaluation(session, run_id=run_id, job_id=job_id, report=report, folder=folder)


def _store_evaluation(
    session: Session, *, run_id: str, job_id: str, report: dict[str, Any], folder: Path
) -> Evaluation:
    suite = str(report.get("suite", "heldout"))
    repository.delete_suite(session, run_id, suite)
    kept = {name: value for name, value in report.items() if name != "summary"}
    evaluation = Evaluation(
        id=new_id("evl"), run_id=run_id, job_id=job_id, suite=suite, report=kept
    )
    session.add(evaluation)
    session.flush()
    for batch in _batches(folder / ITEMS):
        rows = [_item_row(evaluation.id, item) for item in batch]
        repository.insert_items(session, rows)
    return evaluation


def _batches(file: Path) -> Iterator[list[dict[str, Any]]]:
    if not file.is_file():
        return
    batch: list[dict[str, Any]] = []
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            batch.append(_clean(json.loads(line)))
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _item_row(evaluation_id: str, item: dict[str, Any]) -> dict[str, Any]:
    return {
        "evaluation_id": evaluation_id,
        "index": item["index"],
        "line": item["line"],
        "prompt": item["prompt"],
        "expected": item["expected"],
        "base_output": item["base_output"],
        "tuned_output": item["tuned_output"],
        "base_scores": item.get("base_scores") or {},
        "tuned_scores": item.get("tuned_scores") or {},
    }


def _clean(value: Any) -> Any:
    """Return ``value`` as Postgres takes it: finite numbers, no NUL, no lone surrogates."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {str(_clean(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return finite(value)


def get(session: Session, *, evaluation_id: str) -> Evaluation:
    """Return one evaluation or raise ``NotFound``."""
    found = session.get(Evaluation, evaluation_id)
    if found is None:
        raise NotFound("There is no such evaluation. Open it from its run.")
    return found


def of_run(session: Session, *, run_id: str) -> Sequence[Evaluation]:
    """Return the evaluations of a run, by suite."""
    return repository.of_runs(session, [run_id])


def of_runs(session: Session, *, run_ids: Sequence[str]) -> Sequence[Evaluation]:
    """Return the evaluations of several runs."""
    return repository.of_runs(session, run_ids)


def items(
    session: Session, *, evaluation_id: str, page: PageRequest, which: str | None = None
) -> Page[EvaluationItem]:
    """Return items in order; ``which``: ``gained``, ``lost``, ``wrong`` or all."""
    get(session, evaluation_id=evaluation_id)
    position = page.position(int)
    found = repository.items(
        session,
        evaluation_id,
        which=which,
        after=position[0] if position else None,
        limit=page.limit + 1,
    )
    shown = list(found[: page.limit])
    following = encode_cursor([shown[-1].index]) if len(found) > page.limit else None
    return Page(shown, following, repository.count_items(session, evaluation_id, which=which))


def all_items(session: Session, *, evaluation_id: str, limit: int = 10_000) -> list[EvaluationItem]:
    """Return the items of an evaluation, for a comparison."""
    return list(repository.items(session, evaluation_id, which=None, after=None, limit=limit))
