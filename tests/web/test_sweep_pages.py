"""A run is varied by a form, and its sweep is looked at: picture, table, end."""

import re

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.runs.models import Run
from app.sweeps.models import Sweep
from tests.api.test_sweeps import tell
from tests.fixtures import builders
from tests.fixtures.client import Client


@pytest.fixture
def base(client: Client, session: Session) -> str:
    """A run whose settings are varied."""
    version = builders.create_dataset_version(session)
    model = builders.create_base_model(session)
    body = {
        "name": "tone",
        "dataset": version.dataset_id,
        "base_model": model.id,
        "config": {"adapter": {"alpha": 24}, "training": {"max_steps": 90}},
    }
    return str(client.post("/api/v1/runs", json=body).json()["id"])


def sweep_of(client: Client, base: str, **fields: str) -> str:
    """Post the form; return the address it leads to."""
    answer = client.post(f"/sweeps/new?run={base}", data=fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def members(client: Client, address: str) -> list[str]:
    """Return the runs of a sweep in the order they were made."""
    found = client.get(f"/api/v1{address}").json()["runs"]
    return [run["id"] for run in sorted(found, key=lambda run: run["number"])]


def test_the_form_says_what_the_run_has_and_its_page_leads_there(client: Client, base: str) -> None:
    assert f"/sweeps/new?run={base}" in client.get(f"/runs/{base}").text
    page = client.get(f"/sweeps/new?run={base}").text
    assert "in this run: 24" in page
    assert "in this run: 0<" in page


def test_lists_of_values_become_runs_that_keep_the_rest(
    client: Client, session: Session, base: str
) -> None:
    given = {"adapter.rank": "4, 8", "training.scheduler": "cosine,linear", "name": "both"}
    address = sweep_of(client, base, **given)
    runs = session.scalars(select(Run).where(Run.id.in_(members(client, address)))).all()
    found = {
        (run.spec["config"]["adapter"]["rank"], run.spec["config"]["training"]["scheduler"])
        for run in runs
    }
    assert found == {(4, "cosine"), (4, "linear"), (8, "cosine"), (8, "linear")}
    assert {run.spec["config"]["adapter"]["alpha"] for run in runs} == {24}
    assert {run.spec["config"]["training"]["max_steps"] for run in runs} == {90}
    page = client.get(address).text
    assert "The picture appears with the first validation" in page
    assert "both · 4" in page
    assert session.scalars(select(Sweep)).one().halving is None


def test_ends_and_a_number_of_runs_draw_at_random(client: Client, base: str) -> None:
    given = {"training.learning_rate": "1e-3 .. 1e-5", "runs": "12", "halving": "false"}
    address = sweep_of(client, base, **given)
    sweep = client.get(f"/api/v1{address}").json()
    rates = [run["values"]["training.learning_rate"] for run in sweep["runs"]]
    assert len(set(rates)) == 12
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)
    assert sum(rate < 1e-4 for rate in rates) > 2  # drawn evenly, few would be
    assert sweep["search"]["fields"]["training.learning_rate"]["scale"] == "log"


def test_only_a_logarithmic_axis_says_that_it_is_one(
    client: Client, session: Session, base: str
) -> None:
    def axis(typed: str) -> str:
        address = sweep_of(client, base, **{"training.learning_rate": typed})
        for place, run in enumerate(members(client, address)):
            tell(session, run, 10, 1.0 + place)
        found = re.search(r'class="name"[^>]*>(learning_rate[^<]*)<', client.get(address).text)
        assert found
        return found[1]

    assert axis("1e-5, 1e-4, 1e-3") == "learning_rate (log)"
    assert axis("1e-4, 2e-4, 5e-4") == "learning_rate"
    assert axis("1e-4..5e-4") == "learning_rate"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "at least one field two values"),
        ("8", "This is one run only"),
        ("8, big", "valid integer"),
        ("8, 0", "greater"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_typed_is_lost(
    client: Client, base: str, typed: str, said: str
) -> None:
    given = {"adapter.rank": typed, "name": "mine"}
    answer = client.post(f"/sweeps/new?run={base}", data=given)
    assert answer.status_code == 422
    assert said in answer.text
    assert f'value="{typed}"' in answer.text
    assert 'value="mine"' in answer.text
    assert client.get("/api/v1/sweeps").json()["total"] == 0


@pytest.mark.parametrize("runs", ["1", "many"])
def test_a_wrong_number_of_runs_is_said_at_its_field(client: Client, base: str, runs: str) -> None:
    given = {"adapter.rank": "4, 8", "runs": runs}
    answer = client.post(f"/sweeps/new?run={base}", data=given)
    assert answer.status_code == 422
    assert re.search(r'name="runs"[^>]*aria-invalid', answer.text)


def test_the_picture_has_a_line_for_each_run_with_a_figure_and_marks_the_best(
    client: Client, session: Session, base: str
) -> None:
    rates = "1e-4, 1e-3, 1e-2"
    address = sweep_of(client, base, **{"training.learning_rate": rates, "halving": "true"})
    good, bad, waiting = members(client, address)
    tell(session, good, 10, 1.25)
    tell(session, bad, 10, 3.5)
    fragment = client.get(f"{address}/runs").text
    traces = re.findall(r'<path class="([^"]+)" d="M[^"]+"', fragment)
    assert sorted(traces) == ["trace best", "trace ended"]
    assert f'href="/runs/{waiting}"' in fragment
    assert "ended early, 2 of 2 at step 10" in fragment
    assert fragment.index(f"row-{good}") < fragment.index(f"row-{bad}")
    assert f'hx-get="{address}/runs"' in fragment
    assert client.get("/sweeps").text.count("1.250") == 1


def test_a_sweep_is_stopped_from_its_page(client: Client, base: str) -> None:
    address = sweep_of(client, base, **{"adapter.rank": "4, 8"})
    assert "Stop all" in client.get(address).text
    assert client.post(f"{address}/stop").status_code == 303
    page = client.get(address).text
    assert "Stop all" not in page
    assert f'hx-get="{address}/runs"' not in page


def test_without_sweeps_the_list_says_how_to_begin(client: Client) -> None:
    assert "No sweep yet" in client.get("/sweeps").text


def test_a_viewer_looks_and_changes_nothing(viewer_client: Client) -> None:
    assert viewer_client.get("/sweeps").status_code == 200
    assert viewer_client.get("/sweeps/new?run=run_none").status_code == 403
