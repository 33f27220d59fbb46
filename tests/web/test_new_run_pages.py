"""The new-run form: its settings reach the run, and come back when it is launched again."""

import html
import re

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.devices import service as devices
from app.devices.inventory import Found
from app.runs.models import Run
from tests.fixtures import builders
from tests.fixtures.client import Client

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}
WISH = {"watch.on_trouble": "rollback", "watch.loss_steps": "5", "watch.gradient_norm": "50"}


@pytest.fixture
def form(session: Session) -> dict[str, str]:
    """What the form posts for a dataset and a model."""
    version = builders.create_dataset_version(session)
    model = builders.create_base_model(session)
    return {"dataset": version.dataset_id, "base_model": model.id, "base": "{}"}


def launched(client: Client, session: Session, form: dict[str, str]) -> Run:
    answer = client.post("/runs/new", data=form)
    assert answer.status_code == 303, answer.text
    return session.scalars(select(Run)).one()


def control(text: str, name: str) -> str:
    """Return the part of a page from a field's control to the next field."""
    return text.split(f'data-field="{name}"')[1].split("data-field=", maxsplit=1)[0]


class TestWatch:
    def test_what_is_done_at_trouble_reaches_the_run_and_comes_back_with_it(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        run = launched(client, session, form | WISH)
        watch = run.spec["config"]["watch"]
        assert watch | {"on_trouble": "rollback", "loss_steps": 5, "gradient_norm": 50} == watch
        again = client.get(f"/runs/new?like={run.id}").text
        assert 'value="rollback" selected' in control(again, "watch.on_trouble")
        assert 'value="5"' in control(again, "watch.loss_steps")
        assert 'value="50"' in control(again, "watch.gradient_norm")

    def test_each_field_says_what_it_does(self, client: Client, form: dict[str, str]) -> None:
        text = client.post("/runs/new/setup", data=form, headers=HTMX).text
        assert "good checkpoints kept" in control(text, "watch.on_trouble")
        assert 'value="alert" selected' in control(text, "watch.on_trouble")

    def test_a_wrong_value_comes_back_at_its_field(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        answer = client.post("/runs/new", data=form | {"watch.loss_steps": "0"}, headers=HTMX)
        assert answer.status_code == 422
        assert 'aria-invalid="true"' in control(answer.text, "watch.loss_steps")
        assert session.scalars(select(Run)).all() == []


def test_a_run_with_the_same_bits_each_time_is_one_click(
    client: Client, session: Session, form: dict[str, str]
) -> None:
    run = launched(client, session, form | {"training.deterministic": "true"})
    assert run.spec["config"]["training"]["deterministic"] is True
    again = client.get(f"/runs/new?like={run.id}").text
    assert re.search(r'value="true" checked', control(again, "training.deterministic"))


def announce(session: Session, cards: int, *, host: str = "box") -> None:
    found = [Found(kind="cuda", index=at, name="Card", memory_bytes=2**36) for at in range(cards)]
    devices.announce(session, host=host, found=found)


class TestCards:
    @pytest.mark.parametrize("cards", [0, 1])
    def test_nothing_is_asked_where_no_box_has_two(
        self, client: Client, session: Session, form: dict[str, str], cards: int
    ) -> None:
        announce(session, cards)
        announce(session, cards, host="another")
        text = client.post("/runs/new/setup", data=form, headers=HTMX).text
        assert 'name="resources.devices"' not in text
        assert launched(client, session, form).spec["resources"]["devices"] == 1

    def test_as_many_as_chosen_reach_the_run_and_come_back_with_it(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        announce(session, 3)
        text = client.post("/runs/new/setup", data=form, headers=HTMX).text
        shown = control(text, "resources.devices")
        assert re.findall(r'<option value="(\d+)"( selected)?', shown) == [
            ("1", " selected"),
            ("2", ""),
            ("3", ""),
        ]
        run = launched(client, session, form | {"resources.devices": "2"})
        assert run.spec["resources"] == {"kind": "cuda", "devices": 2}
        again = client.get(f"/runs/new?like={run.id}").text
        assert 'value="2" selected' in control(again, "resources.devices")

    def test_too_many_are_refused_at_the_field_while_the_form_is_filled_in_and_at_launch(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        announce(session, 2)
        wish = form | {"resources.devices": "3"}
        for url, status in (("/runs/new/setup", 200), ("/runs/new", 422)):
            answer = client.post(url, data=wish, headers=HTMX)
            assert answer.status_code == status
            shown = control(answer.text, "resources.devices")
            assert "o box has 3 NVIDIA cards; the largest has 2" in shown
        assert session.scalars(select(Run)).all() == []


class TestObjective:
    @pytest.fixture
    def preferences(self, session: Session, form: dict[str, str]) -> dict[str, str]:
        return form | {"dataset": builders.create_preferences(session).dataset_id}

    def test_conversations_are_learned_from_or_rewarded(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        text = client.post("/runs/new/setup", data=form, headers=HTMX).text
        values = re.findall(r'<option value="(\w+)"( selected)?', control(text, "objective"))
        assert values[:2] == [("sft", " selected"), ("grpo", "")]
        assert not re.search(r'name="(preference|sampling|rewards)\.', text)
        assert "Try it first" in text
        wish = form | {"objective": "grpo", "rewards.regex": "1", "rewards.pattern": "true"}
        text = client.post("/runs/new/setup", data=wish, headers=HTMX).text
        assert 'name="sampling.num_generations"' in text
        assert 'name="rewards.schema_text"' in text
        assert "Try it first" not in text
        assert 'name="preference.beta"' not in text
        run = launched(client, session, wish)
        assert run.spec["config"]["rewards"]["pattern"] == "true"
        page = client.get(f"/runs/{run.id}").text
        assert "GRPO with LoRA" in page
        assert '<h2 id="h-loss">Reward</h2>' in page
        assert 'data-names="train/reward eval/reward"' in page

    def test_presets_say_what_they_mean_for_the_objective(
        self, client: Client, form: dict[str, str]
    ) -> None:
        text = client.post("/runs/new/setup", data=form | {"objective": "grpo"}, headers=HTMX).text
        assert "rate 3.2e-4" in text
        assert "rate 6.4e-3" not in text
        assert "as Balanced has them" in text
        base = html.unescape(text.split('name="base" value="')[1].split('"')[0])
        posted = form | {"objective": "grpo", "base": base, "training.learning_rate": "3.2e-4"}
        again = client.post("/runs/new/setup", data=posted, headers=HTMX).text
        assert 'value="grpo" selected' in control(again, "objective")
        assert "as Balanced has them" in again

    def test_what_another_objective_was_given_is_dropped(
        self, client: Client, form: dict[str, str]
    ) -> None:
        wish = form | {"objective": "grpo", "training.packing": "true", "preference.beta": "0.5"}
        text = client.post("/runs/new/setup", data=wish, headers=HTMX).text
        assert 'name="training.packing"' not in text
        assert "aria-invalid" not in text

    def test_a_reward_that_cannot_be_is_said_at_its_field(
        self, client: Client, form: dict[str, str]
    ) -> None:
        wish = form | {"objective": "grpo", "rewards.json_schema": "1", "rewards.schema_text": "{"}
        answer = client.post("/runs/new", data=wish, headers=HTMX)
        assert answer.status_code == 422
        assert "It is no JSON" in control(answer.text, "rewards.schema_text")

    def test_preferences_offer_what_learns_from_them_and_ask_only_what_it_needs(
        self, client: Client, preferences: dict[str, str]
    ) -> None:
        text = client.post("/runs/new/setup", data=preferences, headers=HTMX).text
        shown = control(text, "objective")
        assert re.findall(r'<option value="(\w+)"( selected)?', shown)[0] == ("dpo", " selected")
        assert 'name="preference.label_smoothing"' in text
        assert 'name="preference.desirable_weight"' not in text
        assert "Try it first" in text
        wish = preferences | {"objective": "kto"}
        text = client.post("/runs/new/setup", data=wish, headers=HTMX).text
        assert 'name="preference.desirable_weight"' in text
        assert 'name="preference.label_smoothing"' not in text

    def test_the_choice_reaches_the_run_and_comes_back_with_it(
        self, client: Client, session: Session, preferences: dict[str, str]
    ) -> None:
        wish = preferences | {"objective": "orpo", "preference.beta": "0.25"}
        run = launched(client, session, wish)
        assert run.spec["config"]["objective"] == "orpo"
        assert run.spec["config"]["preference"]["beta"] == 0.25
        page = client.get(f"/runs/{run.id}").text
        assert "ORPO with LoRA r" in page
        assert "train/nll_loss eval/nll_loss" in page
        (link,) = re.findall(r'href="(/runs/new\?[^"]+)"', page)
        again = client.get(link).text
        assert 'value="orpo" selected' in control(again, "objective")
        assert 'value="0.25"' in control(again, "preference.beta")

    def test_another_dataset_takes_its_own_objective(
        self, client: Client, form: dict[str, str]
    ) -> None:
        wish = form | {"objective": "orpo"}
        text = client.post("/runs/new/setup", data=wish, headers=HTMX).text
        assert "learns from" not in text
        assert "Try it first" in text

    def test_a_sweep_of_it_is_compared_by_its_own_figures(
        self, client: Client, session: Session, preferences: dict[str, str]
    ) -> None:
        run = launched(client, session, preferences)
        page = client.get(f"/sweeps/new?run={run.id}").text
        assert "eval/rewards/accuracies, more is better" in page
        given = {"adapter.rank": "4, 8", "metric": "eval/rewards/accuracies"}
        answer = client.post(f"/sweeps/new?run={run.id}", data=given)
        sweep = client.get(f"/api/v1{answer.headers['location']}").json()
        assert (sweep["metric"], sweep["goal"]) == ("eval/rewards/accuracies", "max")
