"""Entering, one's account, the team and the models, through the pages as a browser uses them."""

import re

import pytest
from sqlalchemy.orm import Session

from app.auth import users
from app.auth.roles import Role
from tests.fixtures.builders import PASSWORD, create_base_model, create_user
from tests.fixtures.client import ORIGIN, Client

FRAGMENT = {"HX-Request": "true", "HX-Request-Type": "partial"}
FROM_HERE = {"origin": ORIGIN}


def field(html: str, name: str) -> str:
    found = re.search(rf'id="{name}"[^>]*value="([^"]+)"', html)
    assert found is not None
    return found[1]


def test_a_stranger_is_sent_to_the_login_page_and_back(anonymous_client: Client) -> None:
    answer = anonymous_client.get("/runs?status=failed")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fruns%3Fstatus%3Dfailed"


def test_signing_in_leads_where_one_wanted_to_go(
    anonymous_client: Client, session: Session
) -> None:
    create_user(session, email="mara@example.org", password=PASSWORD)
    form = {"email": "mara@example.org", "password": PASSWORD, "next": "/runs", "keep": "true"}
    answer = anonymous_client.post("/login", data=form, headers=FROM_HERE)
    assert answer.headers["location"] == "/runs"
    assert "Max-Age" in answer.headers["set-cookie"]


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_signing_in_never_leads_to_another_site(
    anonymous_client: Client, session: Session, next_: str
) -> None:
    create_user(session, email="mara@example.org", password=PASSWORD)
    form = {"email": "mara@example.org", "password": PASSWORD, "next": next_}
    answer = anonymous_client.post("/login", data=form, headers=FROM_HERE)
    assert answer.headers["location"] == "/"


def test_a_wrong_password_is_said_at_its_field_and_not_repeated(anonymous_client: Client) -> None:
    form = {"email": "mara@example.org", "password": "not-this-one"}
    answer = anonymous_client.post("/login", data=form, headers=FROM_HERE)
    assert answer.status_code == 422
    assert "do not belong together" in answer.text
    assert 'value="mara@example.org"' in answer.text
    assert "not-this-one" not in answer.text


def test_the_first_link_makes_an_admin_and_works_once(
    anonymous_client: Client, session: Session
) -> None:
    path = users.first_admin_link(session) or ""
    assert "Make the first account" in anonymous_client.get(path).text
    form = {"email": "ada@example.org", "name": "Ada", "password": PASSWORD}
    assert anonymous_client.post(path, data=form, headers=FROM_HERE).status_code == 303
    assert "Ada" in anonymous_client.get("/team").text
    assert anonymous_client.get(path).status_code == 404


def test_a_weak_password_keeps_the_link_alive(anonymous_client: Client, session: Session) -> None:
    path = users.first_admin_link(session) or ""
    form = {"email": "ada@example.org", "password": "short"}
    answer = anonymous_client.post(path, data=form, headers=FROM_HERE)
    assert answer.status_code == 422
    assert "at least" in answer.text
    assert anonymous_client.get(path).status_code == 200


def test_a_form_without_the_token_is_refused(client: Client) -> None:
    del client.headers["X-CSRF-Token"]
    assert client.post("/account/sessions/end").status_code == 403


def test_a_token_is_shown_once(client: Client) -> None:
    form = {"name": "notebook", "scope": "read", "days": "30"}
    answer = client.post("/account/tokens", data=form, headers=FRAGMENT)
    value = field(answer.text, "new-token")
    assert value.startswith("tb_")
    assert value not in client.get("/account").text


def test_a_revoked_token_is_gone_from_the_list(client: Client) -> None:
    answer = client.post("/account/tokens", data={"name": "nightly"}, headers=FRAGMENT)
    path = re.search(r'action="(/account/tokens/tok_\w+/revoke)"', answer.text)
    assert path is not None
    answer = client.post(path[1], headers=FRAGMENT)
    assert "nightly" not in answer.text
    assert "tb:toast" in answer.headers["HX-Trigger"]


def test_a_wrong_present_password_stands_at_its_field(client: Client) -> None:
    form = {"current": "nonsense", "new": "another long password"}
    answer = client.post("/account/password", data=form, headers=FRAGMENT)
    assert answer.status_code == 422
    assert 'id="f-current-e"' in answer.text


def test_an_invitation_shows_its_link_once(client: Client) -> None:
    form = {"email": "jonas@example.org", "role": "viewer"}
    answer = client.post("/team/invite", data=form, headers=FRAGMENT)
    link = field(answer.text, "invite-link")
    assert link.startswith(f"{ORIGIN}/join/")
    page = client.get("/team").text
    assert "jonas@example.org" in page
    assert link not in page


def test_the_last_admin_cannot_be_demoted(client: Client) -> None:
    answer = client.post(f"/team/{client.actor.id}/role", data={"role": "viewer"})
    assert "last%20admin" in answer.headers["set-cookie"]


def test_a_member_sees_the_team_but_not_its_audit(member_client: Client) -> None:
    page = member_client.get("/team").text
    assert "Members" in page
    assert "Audit log" not in page
    assert member_client.get("/team/audit").status_code == 403


def test_what_was_done_reads_as_a_sentence(client: Client, session: Session) -> None:
    person = create_user(session, name="Tom Okafor")
    client.post(f"/team/{person.id}/role", data={"role": "viewer"})
    assert "made Tom Okafor viewer, was member" in client.get("/team").text


def test_a_model_that_is_not_named_rightly_is_said_at_its_field(client: Client) -> None:
    answer = client.post("/models/add", data={"hub_id": "../etc"}, headers=FRAGMENT)
    assert answer.status_code == 422
    assert "organisation/name" in answer.text


def test_a_model_that_failed_says_why(client: Client, session: Session) -> None:
    create_base_model(session, name="far/away", status="failed", failure="The hub is <away>.")
    page = client.get("/models").text
    assert "The hub is &lt;away&gt;." in page


def test_a_viewer_is_offered_nothing_to_change(viewer_client: Client) -> None:
    for path in ("/", "/runs", "/models", "/team"):
        page = viewer_client.get(path).text
        assert "btn-primary" not in page
        assert "Viewer" in viewer_client.get("/team").text
    assert viewer_client.actor.role is Role.VIEWER
