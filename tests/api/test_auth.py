"""People, tokens, sessions and forged requests, over HTTP."""

from datetime import timedelta

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth import service, tokens, users
from app.auth.models import ApiToken, AuditRow, User, UserSession
from app.auth.roles import Actor, Role, Scope
from app.errors import AppError, Conflict, Invalid, NotFound, TooManyRequests
from app.kit.clock import utc_now
from tests.fixtures.builders import PASSWORD, create_user
from tests.fixtures.client import Client, new_client


def bearer(value: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def new_token(session: Session, role: Role = Role.MEMBER, scope: Scope = Scope.WRITE) -> str:
    actor = create_user(session, role=role)
    value = tokens.create(session, actor=actor, name="script", scope=scope).value
    assert value is not None
    return value


class TestFirstAdmin:
    def test_a_link_makes_the_first_admin_once(self, session: Session) -> None:
        link = users.first_admin_link(session)
        assert link is not None
        secret = link.removeprefix("/join/")
        user = users.accept_link(
            session, secret=secret, email="Ada@Example.org", name="", password=PASSWORD
        )
        assert (user.email, user.name, user.role) == ("ada@example.org", "ada", "admin")
        assert users.first_admin_link(session) is None
        with pytest.raises(NotFound):
            users.accept_link(session, secret=secret, email="b@c.de", name="", password=PASSWORD)

    def test_a_second_start_voids_the_first_link(self, session: Session) -> None:
        first, second = users.first_admin_link(session), users.first_admin_link(session)
        assert first is not None
        assert first != second
        with pytest.raises(NotFound, match="fresh link"):
            users.open_link(session, secret=first.removeprefix("/join/"))

    def test_an_unattended_admin_is_refused_once_there_is_one(self, session: Session) -> None:
        users.create_first_admin(session, email="ada@example.org", password=PASSWORD)
        with pytest.raises(Conflict, match="refused"):
            users.create_first_admin(session, email="eve@example.org", password=PASSWORD)

    @pytest.mark.parametrize("password", ["short", "password123", "aaaaaaaaaaaa"])
    def test_a_weak_password_is_refused_at_its_field(self, session: Session, password: str) -> None:
        with pytest.raises(Invalid) as refused:
            users.create_first_admin(session, email="ada@example.org", password=password)
        assert refused.value.errors[0].field == "password"


class TestLogin:
    def login(self, session: Session, email: str, password: str = PASSWORD) -> User | None:
        return service.login(session, email=email, password=password, address="10.0.0.1")

    def test_the_right_password_signs_in_whatever_the_case_of_the_mail(
        self, session: Session
    ) -> None:
        create_user(session, email="ada@example.org", password=PASSWORD)
        assert self.login(session, " Ada@Example.org ") is not None

    def test_a_password_is_stored_as_argon2id(self, session: Session) -> None:
        actor = create_user(session, password=PASSWORD)
        assert str(session.get_one(User, actor.id).password_hash).startswith("$argon2id$")

    def test_five_failures_make_even_the_owner_wait(self, session: Session) -> None:
        create_user(session, email="ada@example.org", password=PASSWORD)
        for _ in range(5):
            assert self.login(session, "ada@example.org", "wrong") is None
        with pytest.raises(TooManyRequests, match="Wait") as refused:
            self.login(session, "ada@example.org")
        assert 0 < refused.value.retry_after <= 300

    def test_twenty_failures_from_one_address_block_it_for_all_mails(
        self, session: Session
    ) -> None:
        for number in range(20):
            assert self.login(session, f"user{number}@example.org", "wrong") is None
        with pytest.raises(TooManyRequests):
            self.login(session, "another@example.org")

    def test_a_disabled_user_and_an_unknown_one_get_the_same_answer(
        self, session: Session, actor: Actor
    ) -> None:
        gone = create_user(session, password=PASSWORD)
        users.disable(session, actor=actor, user_id=gone.id)
        assert self.login(session, gone.email) is None
        assert self.login(session, "nobody@example.org") is None


class TestSession:
    def test_the_cookie_is_stored_as_a_hash_only(self, session: Session) -> None:
        actor = create_user(session)
        user = session.get_one(User, actor.id)
        cookie = service.start_session(session, user=user, user_agent="", address="")
        stored = session.scalars(select(UserSession)).one()
        assert cookie not in (stored.token_hash, stored.id, stored.csrf_token)

    def test_an_old_session_is_over(self, client: Client, session: Session) -> None:
        session.get_one(UserSession, client.actor.session_id).expires_at = utc_now()
        assert client.get("/api/v1/users/me").status_code == 401

    def test_use_moves_a_sessions_end(self, client: Client, session: Session) -> None:
        row = session.get_one(UserSession, client.actor.session_id)
        row.last_seen_at = utc_now() - timedelta(hours=1)
        row.expires_at = soon = utc_now() + timedelta(days=1)
        assert client.get("/api/v1/users/me").status_code == 200
        assert session.get_one(UserSession, client.actor.session_id).expires_at > soon

    def test_a_new_password_ends_the_other_sessions(
        self, session: Session, application: FastAPI, anonymous_client: Client
    ) -> None:
        actor = create_user(session, password=PASSWORD)
        other = new_client(application)
        anonymous_client.sign_in(session, actor)
        other.sign_in(session, actor)
        service.change_password(
            session, actor=anonymous_client.actor, current=PASSWORD, new="another long one"
        )
        assert anonymous_client.get("/api/v1/users/me").status_code == 200
        assert other.get("/api/v1/users/me").status_code == 401

    def test_the_present_password_is_asked_for(self, session: Session, actor: Actor) -> None:
        with pytest.raises(Invalid, match="present password"):
            service.change_password(session, actor=actor, current="?", new="another long one")


class TestForgery:
    def test_a_change_without_the_token_is_refused(self, client: Client) -> None:
        del client.headers["x-csrf-token"]
        answer = client.post("/api/v1/tokens", json={"name": "x"})
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf")

    def test_a_change_from_another_site_is_refused(self, client: Client) -> None:
        answer = client.post(
            "/api/v1/tokens", json={"name": "x"}, headers={"Origin": "https://evil.example"}
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_origin")

    def test_another_users_token_does_not_help(self, client: Client, member_client: Client) -> None:
        client.headers["x-csrf-token"] = member_client.actor.csrf_token or ""
        assert client.post("/api/v1/tokens", json={"name": "x"}).status_code == 403

    def test_a_script_with_a_token_needs_neither(
        self, session: Session, anonymous_client: Client
    ) -> None:
        value = new_token(session)
        answer = anonymous_client.post("/api/v1/tokens", json={"name": "x"}, headers=bearer(value))
        assert answer.status_code == 201

    def test_a_name_that_is_not_ours_is_not_answered(self, client: Client) -> None:
        answer = client.get("/api/v1/users", headers={"Host": "rebound.example"})
        assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host")


class TestTokens:
    def test_a_token_is_shown_once_and_works(self, client: Client, session: Session) -> None:
        made = client.post("/api/v1/tokens", json={"name": "ci", "scope": "write"}).json()
        assert made["token"].startswith("tb_")
        assert made["token"] not in client.get("/api/v1/tokens").text
        assert session.get_one(ApiToken, made["id"]).token_hash != made["token"]
        client.cookies.clear()
        me = client.get("/api/v1/users/me", headers=bearer(made["token"])).json()
        assert (me["email"], me["scope"]) == (client.actor.email, "write")

    def test_a_read_token_changes_nothing(self, session: Session, anonymous_client: Client) -> None:
        value = new_token(session, role=Role.ADMIN, scope=Scope.READ)
        answer = anonymous_client.post("/api/v1/users", json={}, headers=bearer(value))
        assert answer.status_code == 403
        more = anonymous_client.post("/api/v1/tokens", json={"name": "x"}, headers=bearer(value))
        assert more.status_code == 403

    def test_a_viewer_gets_a_read_token_only(self, viewer_client: Client) -> None:
        url = "/api/v1/tokens"
        assert viewer_client.post(url, json={"name": "x", "scope": "write"}).status_code == 403
        assert viewer_client.post(url, json={"name": "x", "scope": "read"}).status_code == 201

    def test_a_token_narrows_when_its_user_becomes_a_viewer(
        self, session: Session, anonymous_client: Client, actor: Actor
    ) -> None:
        value = new_token(session)
        user_id = session.scalars(select(ApiToken.user_id)).one()
        users.change_role(session, actor=actor, user_id=user_id, role=Role.VIEWER)
        me = anonymous_client.get("/api/v1/users/me", headers=bearer(value)).json()
        assert (me["role"], me["scope"]) == ("viewer", "read")

    def test_an_expired_and_a_revoked_token_are_refused(
        self, session: Session, client: Client
    ) -> None:
        value = new_token(session)
        row = session.scalars(select(ApiToken)).one()
        row.expires_at = utc_now()
        assert client.get("/api/v1/users", headers=bearer(value)).status_code == 401
        session.get_one(ApiToken, row.id).expires_at = None
        assert client.get("/api/v1/users", headers=bearer(value)).status_code == 200
        assert client.delete(f"/api/v1/tokens/{row.id}").status_code == 204
        assert client.get("/api/v1/users", headers=bearer(value)).status_code == 401

    def test_others_tokens_are_not_there_for_a_member(
        self, session: Session, member_client: Client
    ) -> None:
        new_token(session)
        row = session.scalars(select(ApiToken)).one()
        assert member_client.get("/api/v1/tokens").json()["total"] == 0
        assert member_client.delete(f"/api/v1/tokens/{row.id}").status_code == 404

    def test_the_command_line_makes_a_token_as_wide_as_the_role(self, session: Session) -> None:
        viewer = create_user(session, role=Role.VIEWER)
        made = tokens.create_for_email(session, email=viewer.email, name="cli")
        assert made.row.scope == "read"
        with pytest.raises(NotFound):
            tokens.create_for_email(session, email="nobody@example.org", name="cli")


class TestUsers:
    def test_an_invitation_lets_one_person_in(self, client: Client, session: Session) -> None:
        body = {"email": "bo@example.org", "role": "viewer"}
        made = client.post("/api/v1/users", json=body)
        assert made.status_code == 201
        secret = made.json()["link"].rpartition("/")[2]
        user = users.accept_link(
            session, secret=secret, email="other@example.org", name="Bo", password=PASSWORD
        )
        assert (user.email, user.role) == ("bo@example.org", "viewer")

    def test_only_admins_invite_and_read_the_audit(
        self, member_client: Client, viewer_client: Client
    ) -> None:
        for stranger in (member_client, viewer_client):
            assert stranger.post("/api/v1/users", json={}).status_code == 403
            assert stranger.get("/api/v1/audit").status_code == 403
            assert stranger.get("/api/v1/users").status_code == 200

    def test_the_last_admin_stays_one(self, client: Client) -> None:
        url = f"/api/v1/users/{client.actor.id}"
        assert client.patch(url, json={"role": "member"}).json()["code"] == "last_admin"
        assert client.delete(url).status_code == 409

    def test_a_disabled_user_is_out_at_once(
        self, client: Client, member_client: Client, session: Session
    ) -> None:
        assert client.delete(f"/api/v1/users/{member_client.actor.id}").status_code == 204
        assert member_client.get("/api/v1/users/me").status_code == 401
        row = session.scalars(select(AuditRow).where(AuditRow.action == "user.disable")).one()
        assert (row.user_id, row.subject_id) == (client.actor.id, member_client.actor.id)

    def test_lists_come_in_pages(self, client: Client, session: Session) -> None:
        for number in range(3):
            create_user(session, name=f"Person {number}")
        seen: list[str] = []
        url = "/api/v1/users?limit=1"
        while url:
            page = client.get(url).json()
            assert page["total"] == 4
            seen += [item["id"] for item in page["items"]]
            url = f"/api/v1/users?limit=1&cursor={page['next']}" if page["next"] else ""
        assert len(set(seen)) == len(seen) == 4


class TestIdempotency:
    headers = {"Idempotency-Key": "one"}  # noqa: RUF012  # read only

    def test_the_same_key_makes_one_thing(self, client: Client) -> None:
        url = "/api/v1/tokens"
        first = client.post(url, json={"name": "ci"}, headers=self.headers).json()
        second = client.post(url, json={"name": "ci"}, headers=self.headers).json()
        assert (second["id"], second["token"]) == (first["id"], None)
        assert client.get(url).json()["total"] == 1

    def test_the_same_key_with_another_body_is_a_conflict(self, client: Client) -> None:
        client.post("/api/v1/tokens", json={"name": "ci"}, headers=self.headers)
        answer = client.post("/api/v1/tokens", json={"name": "other"}, headers=self.headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")


def test_what_a_refused_request_wrote_is_undone(session: Session, actor: Actor) -> None:
    with pytest.raises(AppError):
        users.invite(session, actor=actor, email="no mail", role=Role.MEMBER)
    assert session.scalar(select(AuditRow.id).where(AuditRow.action == "user.invite")) is None
