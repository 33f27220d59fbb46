"""A run is tried from the form, with and without scripts, and says on each page what came of it."""

import re
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.preflights import service
from app.preflights.models import Preflight
from app.runs.models import Run
from tests.api.test_preflights import HALVED, measured, told
from tests.fixtures import builders
from tests.fixtures.client import Client

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}
FITS = {"trials": [{"changes": {}, "measured": measured()}], "chosen": 0, "fits": True}
NOTHING = {
    "trials": [{"changes": {}, "measured": measured(fits=False, reason="out of <memory>")}],
    "chosen": None,
}


@pytest.fixture
def form(session: Session) -> dict[str, str]:
    """What the form posts for a dataset and a model."""
    version = builders.create_dataset_version(session)
    model = builders.create_base_model(session)
    return {"dataset": version.dataset_id, "base_model": model.id, "name": "tone", "mode": "fast"}


def only(session: Session) -> Preflight:
    return session.scalars(select(Preflight)).one()


def tried(client: Client, form: dict[str, str], session: Session) -> str:
    """Try what the form says; return the preflight's id."""
    client.post("/runs/new/try", data=form)
    return only(session).id


class TestForm:
    def test_with_scripts_the_form_stays_and_asks_for_the_result(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        answer = client.post("/runs/new/try", data=form, headers=HTMX)
        assert answer.status_code == 200, answer.text
        made = only(session)
        assert (made.mode, made.spec["name"]) == ("fast", "tone")
        assert f'name="preflight" value="{made.id}"' in answer.text
        assert f'hx-get="/preflights/{made.id}/result?place=form"' in answer.text
        assert 'value="fast" selected' in answer.text

    def test_without_scripts_it_leads_to_the_preflights_page(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        answer = client.post("/runs/new/try", data=form)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/preflights/{only(session).id}"
        page = client.get(answer.headers["location"])
        assert page.status_code == 200
        assert "Try tone" in page.text
        assert f'action="/preflights/{only(session).id}/stop"' in page.text

    def test_what_is_wrong_stands_at_its_field(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        wrong = form | {"training.learning_rate": "fast", "base": "{}"}
        answer = client.post("/runs/new/try", data=wrong, headers=HTMX)
        assert answer.status_code == 422
        field = answer.text.split('data-field="training.learning_rate"')[1].split("</div>")[0]
        assert 'aria-invalid="true"' in field
        assert session.scalars(select(Preflight)).all() == []

    def test_a_viewer_may_not_try(self, viewer_client: Client, form: dict[str, str]) -> None:
        assert viewer_client.post("/runs/new/try", data=form).status_code == 403

    def test_one_click_takes_what_is_proposed_and_the_run_remembers_it(
        self, client: Client, session: Session, form: dict[str, str], tmp_path: Path
    ) -> None:
        made = tried(client, form, session)
        service.finish(session, preflight_id=made, folder=told(tmp_path))
        page = client.get(f"/preflights/{made}")
        assert f'href="/runs/new?preflight={made}"' in page.text
        filled = client.get(f"/runs/new?preflight={made}").text
        assert re.search(r'name="training.batch_size"[^>]*value="1"', filled)
        assert "The form has these settings now." in filled
        posted = form | {"preflight": made, "base": "{}"}
        posted |= {field: str(value) for field, value in HALVED.items()}
        answer = client.post("/runs/new", data=posted)
        assert answer.status_code == 303, answer.text
        run = session.scalars(select(Run)).one()
        assert only(session).run_id == run.id
        assert "Tried before" in client.get(f"/runs/{run.id}").text

    def test_a_form_that_has_changed_since_says_so(
        self, client: Client, session: Session, form: dict[str, str], tmp_path: Path
    ) -> None:
        made = tried(client, form, session)
        service.finish(session, preflight_id=made, folder=told(tmp_path))
        other = form | {"preflight": made, "adapter.rank": "3", "base": "{}"}
        answer = client.post("/runs/new/setup", data=other, headers=HTMX)
        assert "The form has changed since" in answer.text

    def test_a_preflight_that_is_gone_leaves_the_form_as_it_is(
        self, client: Client, form: dict[str, str]
    ) -> None:
        answer = client.post("/runs/new/setup", data=form | {"preflight": "pre_none"}, headers=HTMX)
        assert answer.status_code == 200
        assert re.search(r'id="preflights-result" hidden', answer.text)


class TestResult:
    @pytest.mark.parametrize("place", ["form", "page", "run"])
    @pytest.mark.parametrize(
        ("found", "words"),
        [
            ({}, "It does not fit as it is"),
            (FITS, "It fits"),
            (NOTHING, "Nothing that was tried fits"),
        ],
    )
    def test_it_says_first_whether_it_fits(
        self,
        client: Client,
        session: Session,
        *,
        form: dict[str, str],
        tmp_path: Path,
        place: str,
        found: dict[str, object],
        words: str,
    ) -> None:
        made = tried(client, form | {"mode": "check"}, session)
        service.finish(session, preflight_id=made, folder=told(tmp_path, **found))
        answer = client.get(f"/preflights/{made}/result?place={place}", headers=HTMX)
        assert answer.status_code == 200
        assert words in answer.text
        assert "hx-get" not in answer.text, "a finished one need not be asked for again"
        assert "out of <memory>" not in answer.text

    def test_a_failure_is_told(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        made = tried(client, form, session)
        service.give_up(session, preflight_id=made, reason="The card fell off the bus.")
        assert "fell off the bus" in client.get(f"/preflights/{made}").text

    def test_one_that_waits_says_why_and_can_be_stopped(
        self, client: Client, session: Session, form: dict[str, str]
    ) -> None:
        made = tried(client, form, session)
        assert "No worker is running" in client.get(f"/preflights/{made}").text
        assert client.post(f"/preflights/{made}/stop").status_code == 303
        page = client.get(f"/preflights/{made}").text
        assert "Stopped before it began." in page
        assert f'action="/preflights/{made}/stop"' not in page

    def test_only_its_owner_or_an_admin_stops_it(
        self, client: Client, member_client: Client, session: Session, form: dict[str, str]
    ) -> None:
        made = tried(client, form, session)
        assert member_client.post(f"/preflights/{made}/stop").status_code == 403


def test_the_queue_leads_to_the_preflight(
    client: Client, session: Session, form: dict[str, str]
) -> None:
    made = tried(client, form, session)
    assert f'href="/preflights/{made}"' in client.get("/").text
