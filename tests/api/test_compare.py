"""Two to eight runs stand side by side: what differs, what was measured, what flipped."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.evaluations import service as evaluations
from app.evaluations.models import EvaluationItem
from app.jobs.state import JobStatus
from app.runs.models import Run
from app.runs.spec import Training
from tests.fixtures import builders
from tests.fixtures.client import Client

COMPARE = "/api/v1/compare"


@pytest.fixture
def two(session: Session) -> tuple[Run, Run]:
    owner = builders.create_user(session)
    inputs: dict[str, Any] = {
        "owner": owner,
        "version": builders.create_dataset_version(session, owner=owner),
        "model": builders.create_base_model(session, owner=owner),
        "status": JobStatus.SUCCEEDED,
    }
    first = builders.create_run(session, name="one", summary={"eval/loss": 1.0}, **inputs)
    config = {"training": Training(learning_rate=1e-3)}
    second = builders.create_run(session, name="two", config=config, **inputs)
    return first, second


def test_only_what_differs_is_a_difference(client: Client, two: tuple[Run, Run]) -> None:
    first, second = two
    told = client.get(f"{COMPARE}?runs={first.id},{second.id}").json()
    assert [run["label"] for run in told["runs"]] == ["A", "B"]
    assert told["config_differences"] == [
        {"field": "training.learning_rate", "values": {first.id: 2e-4, second.id: 1e-3}}
    ]
    assert told["metrics"]["eval/loss"] == {first.id: 1.0, second.id: None}


def test_runs_are_paired_on_common_items_and_flips_are_shown(
    client: Client, session: Session, two: tuple[Run, Run]
) -> None:
    first, second = two
    builders.create_evaluation(session, first, items=12)
    worse = builders.create_evaluation(session, second, items=12)
    session.execute(
        update(EvaluationItem)
        .where(EvaluationItem.evaluation_id == worse.id, EvaluationItem.index < 9)
        .values(tuned_scores={"exact_match": 0.0}, tuned_output="wrong")
    )
    told = client.get(f"{COMPARE}?runs={first.id},{second.id}").json()
    exact = next(one for one in told["evaluations"] if one["metric"] == "exact_match")
    between = next(p for p in exact["paired"] if (p["a"], p["b"]) == (first.id, second.id))
    assert (between["difference"], between["changed"], between["n"]) == (-0.75, 9, 12)
    assert between["test"] == "mcnemar"
    assert between["high"] < 0
    assert between["p_value"] < 0.01
    assert 0 < between["detectable"] < 1
    assert len(told["flipped"]) == 12
    flip = told["flipped"][0]
    assert flip["right"] == {"base": False, first.id: True, second.id: False}
    assert flip["outputs"][second.id] == "wrong"


def test_runs_without_an_evaluation_are_compared_and_said(
    client: Client, two: tuple[Run, Run]
) -> None:
    told = client.get(f"{COMPARE}?runs={two[0].id},{two[1].id}").json()
    assert told["evaluations"] == []
    assert len(told["notes"]) == 2


@pytest.mark.parametrize("runs", ["", "run_a", "run_a,run_a", ",".join(f"r{n}" for n in range(9))])
def test_two_to_eight_runs_are_asked_for(client: Client, runs: str) -> None:
    answer = client.get(f"{COMPARE}?runs={runs}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "runs"


def test_an_unknown_run_is_named(client: Client, two: tuple[Run, Run]) -> None:
    answer = client.get(f"{COMPARE}?runs={two[0].id},run_nothing")
    assert "run_nothing" in answer.json()["detail"]


def test_items_are_paged_and_filtered(
    client: Client, session: Session, two: tuple[Run, Run]
) -> None:
    evaluation = builders.create_evaluation(session, two[0], items=5)
    path = f"/api/v1/evaluations/{evaluation.id}"
    assert client.get(path).json()["metrics"]["exact_match"]["better"] == "higher"
    first = client.get(f"{path}/items?limit=3").json()
    rest = client.get(f"{path}/items?limit=3&cursor={first['next']}").json()
    assert [item["index"] for item in first["items"] + rest["items"]] == [0, 1, 2, 3, 4]
    assert client.get(f"{path}/items?which=gained").json()["total"] == 5
    assert client.get(f"{path}/items?which=lost").json()["total"] == 0
    listed = client.get(f"/api/v1/runs/{two[0].id}/evaluations").json()["items"]
    assert [one["id"] for one in listed] == [evaluation.id]


def test_a_report_is_stored_once_however_often_it_comes(
    session: Session, two: tuple[Run, Run], tmp_path: Path
) -> None:
    item = {
        "index": 0,
        "line": 4,
        "prompt": [{"role": "user", "content": "a\x00b"}],
        "expected": "x",
        "base_output": "",
        "tuned_output": "x",
        "base_scores": {"exact_match": 0.0, "loss": float("nan")},
        "tuned_scores": {"exact_match": 1.0},
    }
    report = {"suite": "heldout", "n": 1, "metrics": {"loss": {}}, "summary": {"eval/loss": 0.5}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "items.jsonl").write_text(json.dumps(item) + "\n")
    builders.add_points(session, two[1].job_id, "train/loss", {1: 0.25})
    for _ in range(2):
        evaluations.store(session, job_id=two[1].job_id, folder=tmp_path)
    stored = evaluations.of_run(session, run_id=two[1].id)
    assert len(stored) == 1
    items = evaluations.all_items(session, evaluation_id=stored[0].id)
    assert items[0].prompt == [{"role": "user", "content": "a\ufffdb"}]
    assert items[0].base_scores["loss"] is None
    session.refresh(two[1])
    assert two[1].summary == {"train/loss": 0.25, "eval/loss": 0.5}
