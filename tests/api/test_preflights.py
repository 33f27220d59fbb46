"""A run is tried before it is launched: asked as a launch is, told in figures, kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.roles import Actor
from app.jobs.models import Job
from app.preflights import service
from app.preflights.models import Preflight
from app.runs.models import Run
from app.runs.spec import RunSpec
from tests.fixtures import builders
from tests.fixtures.client import Client

PREFLIGHTS = "/api/v1/preflights"
HALVED = {"training.batch_size": 1, "training.gradient_accumulation": 8}


def body(session: Session, **fields: Any) -> dict[str, Any]:
    version = builders.create_dataset_version(session)
    model = builders.create_base_model(session)
    return {"dataset": version.dataset_id, "base_model": model.id, **fields}


def measured(**values: Any) -> dict[str, Any]:
    """Return what a try tells, as the trainer writes it."""
    plain = {
        "fits": True,
        "reason": "",
        "used_bytes": 900,
        "held_bytes": 1000,
        "available_bytes": 2000,
        "device": "a card",
        "engine": "peft",
        "tokens_per_second": 123.0,
        "steps": 40,
        "seconds": 60.0,
        "losses": [1.0],
    }
    return {**plain, **values}


def told(folder: Path, **values: Any) -> Path:
    """Write what a preflight found into a folder; return the folder."""
    failed = measured(fits=False, reason="out of memory", tokens_per_second=None)
    found = {
        "mode": "check",
        "fits": False,
        "trials": [
            {"changes": {}, "measured": failed},
            {"changes": HALVED, "measured": measured()},
        ],
        "chosen": 1,
        "changes": HALVED,
        **values,
    }
    folder.mkdir(exist_ok=True)
    (folder / "preflight.json").write_text(json.dumps(found))
    return folder


def test_the_body_of_a_launch_is_tried_as_it_would_be_launched(
    client: Client, session: Session
) -> None:
    request = body(session, config={"adapter": {"rank": 4}})
    answer = client.post(PREFLIGHTS, json=request)
    assert answer.status_code == 202, answer.text
    found = answer.json()
    run = client.post("/api/v1/runs", json=request).json()
    assert found["spec"]["config"] == run["spec"]["config"]
    assert (found["status"], found["mode"], found["fits"]) == ("queued", "check", None)
    assert found["waiting_reason"]
    job = session.get_one(Job, found["job"])
    assert (job.kind, job.lane, job.devices_needed) == ("preflight", "devices", 1)
    assert client.get(f"{PREFLIGHTS}/{found['id']}").json()["spec"] == found["spec"]


def test_it_comes_before_runs_that_wait(client: Client, session: Session) -> None:
    run = client.post("/api/v1/runs", json=body(session)).json()
    found = client.post(PREFLIGHTS, json=body(session)).json()
    jobs = {job.id: job.priority for job in session.scalars(select(Job))}
    assert jobs[found["job"]] > jobs[run["job"]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"config": {"training": {"learning_rate": -1}}}, "config.training.learning_rate"),
        ({"mode": "guess"}, "mode"),
        ({"base_model": "mdl_none"}, "base_model"),
        ({"config": {"quantization": "nf4"}, "resources": {"kind": "cpu"}}, "config.quantization"),
    ],
)
def test_what_could_not_be_launched_is_refused_at_its_field(
    client: Client, session: Session, change: dict[str, Any], field: str
) -> None:
    answer = client.post(PREFLIGHTS, json=body(session) | change)
    assert answer.status_code == 422
    assert field in {error["field"] for error in answer.json()["errors"]}


@pytest.mark.parametrize(
    "config", [{"objective": "simulated", "simulate": {"steps": 5}}, {"objective": "grpo"}]
)
def test_what_has_no_steps_of_its_rows_is_not_tried(
    client: Client, session: Session, config: dict[str, Any]
) -> None:
    answer = client.post(PREFLIGHTS, json=body(session, config=config))
    assert answer.json()["errors"][0]["field"] == "config.objective"


def test_a_viewer_may_look_and_not_try(
    client: Client, viewer_client: Client, session: Session
) -> None:
    request = body(session)
    assert viewer_client.post(PREFLIGHTS, json=request).status_code == 403
    made = client.post(PREFLIGHTS, json=request).json()
    assert viewer_client.get(f"{PREFLIGHTS}/{made['id']}").status_code == 200


def test_there_is_no_such_preflight(client: Client) -> None:
    assert client.get(f"{PREFLIGHTS}/pre_none").status_code == 404


def test_the_same_key_tries_once(client: Client, session: Session) -> None:
    request, key = body(session), {"Idempotency-Key": "k1"}
    first = client.post(PREFLIGHTS, json=request, headers=key).json()
    assert client.post(PREFLIGHTS, json=request, headers=key).json()["id"] == first["id"]


def test_what_was_measured_is_told_with_the_change_that_fits(
    client: Client, session: Session, tmp_path: Path
) -> None:
    made = client.post(PREFLIGHTS, json=body(session)).json()
    service.finish(session, preflight_id=made["id"], folder=told(tmp_path))
    found = client.get(f"{PREFLIGHTS}/{made['id']}").json()
    assert (found["fits"], found["chosen"], found["changes"]) == (False, 1, HALVED)
    assert found["device"] == "a card"
    first, second = found["trials"]
    assert (first["fits"], first["reason"]) == (False, "out of memory")
    assert second["words"] == "micro-batch 1 × 8"
    assert (second["held_bytes"], second["tokens_per_second"]) == (1000, 123.0)
    assert found["finished_at"]


def test_a_failure_is_told_and_does_not_undo_a_result(
    client: Client, session: Session, tmp_path: Path
) -> None:
    made = client.post(PREFLIGHTS, json=body(session)).json()
    service.give_up(session, preflight_id=made["id"], reason="The card fell off the bus.")
    assert client.get(f"{PREFLIGHTS}/{made['id']}").json()["failure"].startswith("The card")
    service.finish(session, preflight_id=made["id"], folder=told(tmp_path))
    service.give_up(session, preflight_id=made["id"], reason="Late.")
    assert client.get(f"{PREFLIGHTS}/{made['id']}").json()["failure"] is None


class TestOfARun:
    """A run that tries itself, and one that was tried before."""

    def test_changes_that_were_applied_stand_in_its_spec_with_their_reason(
        self, session: Session, tmp_path: Path
    ) -> None:
        run = builders.create_run(session)
        folder = told(tmp_path, applied=HALVED)
        service.store_of_run(session, job_id=run.job_id, folder=folder)
        session.flush()
        spec = RunSpec.model_validate(session.get_one(Run, run.id).spec)
        assert (spec.config.training.batch_size, spec.config.training.gradient_accumulation) == (
            1,
            8,
        )
        assert "preflight" in run.reasons["training.batch_size"]
        view = service.of_run(session, run_id=run.id)
        assert view is not None
        assert view.proposed is not None
        assert view.proposed.changes == HALVED

    def test_what_was_only_proposed_leaves_the_spec_as_it_is(
        self, session: Session, tmp_path: Path
    ) -> None:
        run = builders.create_run(session)
        before = dict(run.spec)
        service.store_of_run(session, job_id=run.job_id, folder=told(tmp_path))
        assert run.spec == before

    def test_a_run_remembers_what_was_tried_only_if_that_is_what_runs(
        self, client: Client, session: Session, actor: Actor, tmp_path: Path
    ) -> None:
        request = body(session)
        made = client.post(PREFLIGHTS, json=request).json()
        service.finish(session, preflight_id=made["id"], folder=told(tmp_path))
        other = client.post("/api/v1/runs", json=request | {"config": {"adapter": {"rank": 3}}})
        halved = {"training": {"batch_size": 1, "gradient_accumulation": 8}}
        same = client.post("/api/v1/runs", json=request | {"config": halved})
        for answer, is_remembered in ((other, False), (same, True)):
            run = answer.json()
            service.attach(
                session,
                actor=actor,
                preflight_id=made["id"],
                run_id=run["id"],
                spec=RunSpec.model_validate(run["spec"]),
            )
            found = session.get_one(Preflight, made["id"]).run_id
            assert found == (run["id"] if is_remembered else None)
