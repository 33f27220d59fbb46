"""A run is asked for in part, stored whole, and refused with the field and the cure."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.devices import service as devices
from app.devices.inventory import Found
from app.jobs.models import Job
from app.jobs.state import JobStatus
from app.runs import service
from app.runs.models import Run
from app.runs.spec import RunSpec
from app.settings import get_settings
from tests.fixtures import builders
from tests.fixtures.client import Client

RUNS = "/api/v1/runs"
SIMULATED = {"objective": "simulated", "simulate": {"steps": 5}}


def body(session: Session, **fields: Any) -> dict[str, Any]:
    version = builders.create_dataset_version(session)
    model = builders.create_base_model(session)
    return {"dataset": version.dataset_id, "base_model": model.id, **fields}


def refused(client: Client, request: dict[str, Any], field: str, code: str = "invalid") -> str:
    answer = client.post(RUNS, json=request)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["code"] == code
    messages = {error["field"]: error["message"] for error in problem["errors"]}
    assert field in messages, messages
    return str(messages[field])


def test_what_is_left_out_comes_from_the_preset_and_is_stored(
    client: Client, session: Session
) -> None:
    answer = client.post(RUNS, json=body(session, config={"adapter": {"rank": 4}}))
    assert answer.status_code == 201, answer.text
    run = answer.json()
    spec = RunSpec.model_validate(run["spec"])
    assert spec.config.adapter.rank == spec.config.adapter.alpha == 4
    assert spec.config.training.learning_rate == 6.4e-3
    assert "128" in run["reasons"]["training.learning_rate"]
    assert (run["status"], run["owner"]) == ("queued", client.actor.id)
    assert run["waiting_reason"]
    assert client.get(f"{RUNS}/{run['id']}").json()["spec"] == run["spec"]
    assert session.get_one(Job, run["job"]).subject_id == run["id"]


def test_the_yaml_launches_the_same_run_again(client: Client, session: Session) -> None:
    run = client.post(RUNS, json=body(session)).json()
    text = client.get(f"{RUNS}/{run['id']}/yaml").text
    assert "learning_rate: 0.0064" in text
    again = {name: run["spec"][name] for name in run["spec"] if name != "schema_version"}
    second = client.post(RUNS, json=again)
    assert second.status_code == 201, second.text
    assert second.json()["spec"]["config"] == run["spec"]["config"]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"training": {"learning_rat": 1}}, "config.training.learning_rat"),
        ({"training": {"learning_rate": -1}}, "config.training.learning_rate"),
        ({"training": {"learning_rate": "fast"}}, "config.training.learning_rate"),
        ({"training": 5}, "config.training"),
        ({"adapter": {"rank": 0}}, "config.adapter.rank"),
        ({"what": 1}, "config.what"),
        ({"engine": "fused"}, "config.engine"),
        ({"method": "full", "quantization": "int8"}, "config.quantization"),
        ({"adapter": {"init": "pissa"}, "quantization": "nf4"}, "config.adapter.init"),
        ({"quantization": "fp8"}, "config.quantization"),
        ({"adapter": {"init": "loftq"}}, "config.adapter.init"),
        ({"evaluation": {"suites": ["mmlu"]}}, "config.evaluation.suites"),
        ({"evaluation": {"probe_prompts": ["Hi"]}}, "config.evaluation.probe_prompts"),
        ({"simulate": {"steps": 1}}, "config.simulate"),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(
    client: Client, session: Session, config: dict[str, Any], field: str
) -> None:
    assert refused(client, body(session, config=config), field)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"quantization": "nf4"}, "config.quantization"),
        ({"engine": "unsloth"}, "config.engine"),
        ({"training": {"optimizer": "adamw_8bit"}}, "config.training.optimizer"),
    ],
)
def test_what_needs_a_card_is_refused_on_a_cpu(
    client: Client, session: Session, config: dict[str, Any], field: str
) -> None:
    request = body(session, config=config, resources={"kind": "cpu"})
    assert "NVIDIA" in refused(client, request, field)


def test_a_run_may_take_as_many_cards_as_a_box_has(client: Client, session: Session) -> None:
    cards = [Found(kind="cuda", index=at, name="Card", memory_bytes=2**36) for at in range(2)]
    devices.announce(session, host="box", found=cards)
    request = body(session, resources={"kind": "cuda", "devices": 2})
    answer = client.post(RUNS, json=request)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"]["resources"] == {"kind": "cuda", "devices": 2}
    request["resources"] = {"kind": "cuda", "devices": 3}
    assert "the largest has 2" in refused(client, request, "resources.devices")
    request["resources"] = {"kind": "cpu", "devices": 2}
    assert "use 1" in refused(client, request, "resources.devices")


def test_several_wrong_fields_are_all_named(client: Client, session: Session) -> None:
    config = {"adapter": {"rank": 0}, "training": {"epochs": -1}}
    answer = client.post(RUNS, json=body(session, config=config)).json()
    fields = {error["field"] for error in answer["errors"]}
    assert fields == {"config.adapter.rank", "config.training.epochs"}


def test_an_unknown_dataset_or_model_is_refused_by_its_field(
    client: Client, session: Session
) -> None:
    request = body(session)
    assert refused(client, request | {"dataset": "ds_nothing"}, "dataset")
    other = {"id": request["dataset"], "version": 9}
    assert refused(client, request | {"dataset": other}, "dataset")
    assert refused(client, request | {"base_model": "mdl_nothing"}, "base_model")


def test_a_dataset_with_errors_needs_a_yes(client: Client, session: Session) -> None:
    version = builders.create_dataset_version(session, status="invalid", errors=3, bad_rows=3)
    request = body(session) | {"dataset": version.dataset_id}
    field = "config.data.exclude_problem_rows"
    assert "3 rows" in refused(client, request, field, "dataset_has_errors")
    request["config"] = {"data": {"exclude_problem_rows": True}}
    assert client.post(RUNS, json=request).status_code == 201


def test_inputs_that_are_not_ready_are_a_conflict(client: Client, session: Session) -> None:
    version = builders.create_dataset_version(session, status="checking")
    model = builders.create_base_model(session, status="downloading")
    request = body(session)
    checking = client.post(RUNS, json=request | {"dataset": version.dataset_id})
    loading = client.post(RUNS, json=request | {"base_model": model.id})
    assert (checking.status_code, checking.json()["code"]) == (409, "dataset_not_ready")
    assert (loading.status_code, loading.json()["code"]) == (409, "base_model_not_ready")


def test_the_same_key_launches_once(client: Client, session: Session) -> None:
    request, headers = body(session, config=SIMULATED), {"Idempotency-Key": "once"}
    first = client.post(RUNS, json=request, headers=headers)
    second = client.post(RUNS, json=request, headers=headers)
    other = client.post(RUNS, json=request | {"name": "x"}, headers=headers)
    assert first.json()["id"] == second.json()["id"]
    assert other.status_code == 409
    assert client.get(RUNS).json()["total"] == 1


def test_a_viewer_cannot_launch(viewer_client: Client, session: Session) -> None:
    assert viewer_client.post(RUNS, json=body(session)).status_code == 403


def test_lists_are_filtered_sorted_and_paged(client: Client, session: Session) -> None:
    for name in ("beta", "alpha", "gamma"):
        builders.create_run(session, name=name)
    done = builders.create_run(session, name="delta", status=JobStatus.SUCCEEDED)

    def names(query: str) -> list[str]:
        return [run["name"] for run in client.get(f"{RUNS}?{query}").json()["items"]]

    assert names("sort=name") == ["alpha", "beta", "delta", "gamma"]
    assert names("sort=-name&limit=2") == ["gamma", "delta"]
    assert names("status=succeeded") == ["delta"]
    assert names("q=ALP") == ["alpha"]
    assert names(f"dataset={done.dataset_id}") == ["delta"]
    first = client.get(f"{RUNS}?limit=3").json()
    rest = client.get(f"{RUNS}?limit=3&cursor={first['next']}").json()
    assert [run["name"] for run in first["items"] + rest["items"]] == [
        "delta",
        "gamma",
        "alpha",
        "beta",
    ]
    assert (first["total"], rest["next"]) == (4, None)


@pytest.mark.parametrize("query", ["sort=colour", "status=happy", "cursor=x", "limit=0"])
def test_a_wrong_query_is_refused(client: Client, query: str) -> None:
    assert client.get(f"{RUNS}?{query}").status_code == 422


def test_a_queued_run_is_cancelled_at_once_by_its_owner_only(
    client: Client, member_client: Client, session: Session
) -> None:
    run = client.post(RUNS, json=body(session, config=SIMULATED)).json()
    path = f"{RUNS}/{run['id']}/stop"
    assert member_client.post(path, json={"mode": "cancel"}).status_code == 403
    stopped = client.post(path, json={"mode": "cancel"})
    assert (stopped.status_code, stopped.json()["status"]) == (202, "cancelled")
    again = client.post(path, json={"mode": "cancel"})
    assert again.status_code == 409
    assert "cancelled" in again.json()["detail"]


def failed_run(client: Client, session: Session) -> Run:
    return builders.create_run(
        session,
        owner=client.actor,
        status=JobStatus.FAILED,
        failure={
            "kind": "diverged",
            "title": "The training diverged",
            "explanation": "x",
            "evidence": "loss nan",
            "next_step": "y",
            "changes": {"training.learning_rate": 0.0001},
        },
    )


def test_a_failed_run_says_why_and_is_retried_with_a_change(
    client: Client, session: Session
) -> None:
    run = failed_run(client, session)
    shown = client.get(f"{RUNS}/{run.id}").json()
    assert shown["failure"]["evidence"] == "loss nan"
    answer = client.post(f"{RUNS}/{run.id}/retry", json={"changes": shown["failure"]["changes"]})
    assert answer.status_code == 202, answer.text
    again = answer.json()
    assert again["status"] == "queued"
    assert again["spec"]["config"]["training"]["learning_rate"] == 0.0001
    assert again["reasons"]["training.learning_rate"] == "Changed for attempt 2."
    log = client.get(f"{RUNS}/{run.id}/log").json()["lines"]
    assert "training.learning_rate" in log[-1]


def test_a_checkpoint_cannot_go_on_with_another_adapter(client: Client, session: Session) -> None:
    run = failed_run(client, session)
    wish: dict[str, Any] = {"changes": {"adapter.rank": 4}}
    answer = client.post(f"{RUNS}/{run.id}/retry", json=wish)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "changes.adapter.rank"
    fresh = client.post(f"{RUNS}/{run.id}/retry", json=wish | {"from": "start"})
    assert fresh.status_code == 202
    assert fresh.json()["spec"]["config"]["adapter"]["rank"] == 4


def test_curves_events_log_and_checkpoints_are_told(client: Client, session: Session) -> None:
    run = builders.create_run(session, status=JobStatus.RUNNING)
    builders.add_points(session, run.job_id, "train/loss", {1: 2.0, 2: 1.5})
    builders.add_events(
        session,
        run.job_id,
        ("log", None, {"text": "loading"}),
        ("checkpoint", 10, {"bytes": 5, "best": True, "eval_loss": 1.2}),
        ("checkpoint", 20, {"bytes": 5, "eval_loss": 1.3}),
    )
    path = f"{RUNS}/{run.id}"
    curves = client.get(f"{path}/metrics?names=train/loss").json()
    assert curves["series"]["train/loss"]["value"] == [2.0, 1.5]
    assert client.get(f"{path}/events?after=1").json()["last"] == 3
    assert client.get(f"{path}/log").json() == {"lines": ["loading"], "whole": False}
    told = client.get(f"{path}/checkpoints").json()["items"]
    assert [(one["step"], one["best"], one["kept"]) for one in told] == [
        (20, False, True),
        (10, True, True),
    ]


def test_the_script_is_python_that_names_the_run(client: Client, session: Session) -> None:
    run = client.post(RUNS, json=body(session)).json()
    text = client.get(f"{RUNS}/{run['id']}/script").text
    compile(text, "script.py", "exec")
    assert run["name"] in text


def test_other_tools_yaml_comes_later(client: Client, session: Session) -> None:
    run = builders.create_run(session)
    answer = client.get(f"{RUNS}/{run.id}/yaml?for=axolotl")
    assert answer.status_code == 422
    assert "not available" in answer.json()["detail"]


@pytest.mark.parametrize(
    "part", ["", "/metrics", "/events", "/log", "/checkpoints", "/evaluations", "/script", "/yaml"]
)
def test_an_unknown_run_is_not_found(client: Client, part: str) -> None:
    assert client.get(f"{RUNS}/run_nothing{part}").status_code == 404


def test_a_trainer_gets_file_lines_and_folder(client: Client, session: Session) -> None:
    run = session.get_one(Run, client.post(RUNS, json=body(session)).json()["id"])
    job = service.trainer_job(session, get_settings(), job_id=run.job_id, device="cpu")
    assert job.dataset_file.endswith("/original")
    assert job.run == RunSpec.model_validate(run.spec)
    assert str(get_settings().models_folder) in job.base_model_folder
    assert job.excluded_lines == ()


def test_a_simulated_run_needs_no_files(client: Client, session: Session) -> None:
    run_id = client.post(RUNS, json=body(session, config=SIMULATED)).json()["id"]
    run = session.get_one(Run, run_id)
    job = service.trainer_job(session, get_settings(), job_id=run.job_id, device="cpu")
    assert (job.dataset_file, job.base_model_folder) == ("", "")
