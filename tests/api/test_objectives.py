"""What is learned fits the dataset's rows: chosen for them, or refused with what would do."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from tests.fixtures import builders
from tests.fixtures.client import Client

RUNS, SWEEPS = "/api/v1/runs", "/api/v1/sweeps"


def body(session: Session, rows: str, **config: Any) -> dict[str, Any]:
    if rows == "conversations":
        version = builders.create_dataset_version(session)
    else:
        version = builders.create_preferences(session, is_judged=rows == "judged")
    model = builders.create_base_model(session)
    return {"dataset": version.dataset_id, "base_model": model.id, "config": config}


@pytest.mark.parametrize(
    ("rows", "objective"), [("conversations", "sft"), ("pairs", "dpo"), ("judged", "kto")]
)
def test_left_out_it_follows_from_the_rows(
    client: Client, session: Session, rows: str, objective: str
) -> None:
    run = client.post(RUNS, json=body(session, rows)).json()
    assert run["spec"]["config"]["objective"] == objective
    assert "The dataset holds" in run["reasons"]["objective"]


@pytest.mark.parametrize("objective", ["orpo", "kto", "reward"])
def test_another_that_takes_the_rows_is_taken(
    client: Client, session: Session, objective: str
) -> None:
    answer = client.post(RUNS, json=body(session, "pairs", objective=objective))
    assert answer.status_code == 201, answer.text
    config = answer.json()["spec"]["config"]
    assert (config["objective"], config["training"]["packing"]) == (objective, False)


@pytest.mark.parametrize(
    "case",
    [
        ("conversations", "dpo", ["conversations", "sft or grpo"]),
        ("pairs", "grpo", ["pairs of answers"]),
        ("pairs", "sft", ["pairs of answers", "dpo or orpo or kto or reward"]),
        ("judged", "dpo", ["good or bad", "kto"]),
        ("judged", "orpo", ["kto"]),
    ],
)
def test_rows_that_it_cannot_learn_from_are_refused_at_the_dataset(
    client: Client, session: Session, case: tuple[str, str, list[str]]
) -> None:
    rows, objective, cures = case
    answer = client.post(RUNS, json=body(session, rows, objective=objective))
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["field"] == "dataset"
    for cure in cures:
        assert cure in error["message"]


@pytest.mark.parametrize(
    "case",
    [
        ("pairs", {"method": "full"}, "method"),
        ("pairs", {"training": {"packing": True}}, "training.packing"),
        ("pairs", {"training": {"assistant_only_loss": False}}, "training.assistant_only_loss"),
        ("pairs", {"training": {"neftune_alpha": 5}}, "training.neftune_alpha"),
        ("conversations", {"objective": "grpo", "fit": "check"}, "fit"),
        ("pairs", {"preference": {"desirable_weight": 2}}, "preference.desirable_weight"),
        ("conversations", {"preference": {"beta": 0.3}}, "preference.beta"),
        ("pairs", {"preference": {"beta": 0}}, "preference.beta"),
        (
            "conversations",
            {"objective": "grpo", "training": {"batch_size": 3, "gradient_accumulation": 5}},
            "sampling.num_generations",
        ),
        (
            "conversations",
            {"objective": "grpo", "sampling": {"max_completion_length": 4096}},
            "sampling.max_completion_length",
        ),
        ("conversations", {"objective": "grpo", "rewards": {"regex": 1}}, "rewards.pattern"),
        ("conversations", {"rewards": {"length": 1}}, "rewards.length"),
        (
            "judged",
            {"training": {"batch_size": 1, "gradient_accumulation": 1}},
            "training.batch_size",
        ),
    ],
)
def test_what_it_cannot_be_had_with_is_refused_at_its_field(
    client: Client, session: Session, case: tuple[str, dict[str, Any], str]
) -> None:
    rows, config, field = case
    answer = client.post(RUNS, json=body(session, rows, **config))
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [f"config.{field}"]


def test_a_dataset_that_is_still_checked_says_so_whatever_is_learned(
    client: Client, session: Session
) -> None:
    version = builders.create_dataset_version(session, status="checking", format=None)
    model = builders.create_base_model(session)
    request = {"dataset": version.dataset_id, "base_model": model.id}
    answer = client.post(RUNS, json={**request, "config": {"objective": "dpo"}})
    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_not_ready")


def test_orpo_asks_no_model_from_before_so_all_weights_can_be_trained(
    client: Client, session: Session
) -> None:
    request = body(session, "pairs", objective="orpo", method="full")
    assert client.post(RUNS, json=request).status_code == 201


def test_preferences_take_a_share_of_the_learning_rate(client: Client, session: Session) -> None:
    rates = {
        objective: client.post(RUNS, json=body(session, "pairs", objective=objective)).json()[
            "spec"
        ]["config"]["training"]["learning_rate"]
        for objective in ("dpo", "orpo", "reward")
    }
    sft = client.post(RUNS, json=body(session, "conversations")).json()
    plain = sft["spec"]["config"]["training"]["learning_rate"]
    assert rates == pytest.approx({"dpo": plain / 20, "orpo": plain / 4, "reward": plain / 2})


def test_a_step_of_rewards_has_whole_groups(client: Client, session: Session) -> None:
    config = {"objective": "grpo", "sampling": {"num_generations": 4}}
    run = client.post(RUNS, json=body(session, "conversations", **config)).json()
    training = run["spec"]["config"]["training"]
    assert (training["batch_size"], training["gradient_accumulation"]) == (4, 4)
    assert run["spec"]["config"]["sampling"]["max_completion_length"] == 256


def test_there_is_no_script_of_preferences(client: Client, session: Session) -> None:
    run = client.post(RUNS, json=body(session, "pairs")).json()
    answer = client.get(f"{RUNS}/{run['id']}/script")
    assert answer.status_code == 422
    assert "scripts of sft only" in answer.json()["detail"]


class TestSweeps:
    def of(
        self, client: Client, session: Session, search: dict[str, Any], **fields: Any
    ) -> dict[str, Any]:
        request = {**body(session, "pairs"), "search": {"fields": search}, **fields}
        return client.post(SWEEPS, json=request).json()

    def test_their_own_figures_decide(self, client: Client, session: Session) -> None:
        rates = {"training.learning_rate": {"values": [1e-4, 1e-3]}}
        sweep = self.of(client, session, rates, metric="eval/rewards/margins")
        assert (sweep["metric"], sweep["goal"]) == ("eval/rewards/margins", "max")
        wrong = self.of(client, session, rates, metric="eval/perplexity")
        assert wrong["errors"][0]["field"] == "metric"
        assert "eval/rewards/accuracies" in wrong["errors"][0]["message"]

    def test_beta_scales_the_loss_so_runs_are_compared_by_accuracies(
        self, client: Client, session: Session
    ) -> None:
        betas = {"preference.beta": {"values": [0.1, 0.3]}}
        wrong = self.of(client, session, betas)
        assert wrong["errors"][0]["field"] == "search.fields.preference.beta"
        assert "eval/rewards/accuracies" in wrong["errors"][0]["message"]
        assert self.of(client, session, betas, metric="eval/rewards/accuracies")["goal"] == "max"
