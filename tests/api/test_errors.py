"""Whatever goes wrong, a program gets a problem document that names the place and the cure."""

import json

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy.orm import Session

from app.dependencies import Public
from app.logging import scrub_text
from app.main import create_app
from app.settings import Settings
from tests.fixtures.client import Client, new_client

TOKENS = "/api/v1/tokens"


def check_problem(answer: object, status: int, code: str) -> dict[str, object]:
    response: object = answer
    assert getattr(response, "status_code") == status  # noqa: B009
    headers = getattr(response, "headers")  # noqa: B009
    assert headers["content-type"] == "application/problem+json"
    body = json.loads(getattr(response, "text"))  # noqa: B009
    assert set(body) == {"type", "title", "status", "detail", "code", "errors"}
    assert (body["status"], body["code"]) == (status, code)
    return body


def test_an_unknown_path_is_a_problem(client: Client) -> None:
    assert check_problem(client.get("/api/v1/nothing"), 404, "not_found")["detail"]


def test_an_unknown_method_is_a_problem_that_names_the_known_ones(client: Client) -> None:
    answer = client.put(TOKENS)
    check_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) <= {"GET", "POST", "HEAD"}


def test_a_stranger_is_told_how_to_sign_in(anonymous_client: Client) -> None:
    answer = anonymous_client.get(TOKENS)
    check_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_bad_bearer_is_refused_even_with_a_good_cookie(client: Client) -> None:
    answer = client.get(TOKENS, headers={"Authorization": "Bearer tb_wrong"})
    assert check_problem(answer, 401, "unauthenticated")["detail"]


@pytest.mark.parametrize("text", ["{", "", "{'name': 1}", '{"name": "x"} more'])
def test_broken_json_is_named(client: Client, text: str) -> None:
    answer = client.post(TOKENS, content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    check_problem(answer, answer.status_code, answer.json()["code"])


def test_unknown_and_wrong_fields_are_named_by_their_path(client: Client) -> None:
    body = {"name": "x", "days": 0, "colour": "blue"}
    problem = check_problem(client.post(TOKENS, json=body), 422, "invalid")
    assert {item["field"] for item in problem["errors"]} == {"days", "colour"}  # type: ignore[index]
    assert "greater than or equal to 1" in str(problem)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x"])
def test_a_limit_out_of_range_is_named(client: Client, query: str) -> None:
    problem = check_problem(client.get(f"{TOKENS}?{query}"), 422, "invalid")
    assert "limit" in str(problem["errors"])


@pytest.mark.parametrize("cursor", ["x", "W10=", "bnVsbA==", "WzEsMl0=", "%00", "é"])
@pytest.mark.parametrize("path", ["/api/v1/users", TOKENS, "/api/v1/audit"])
def test_an_invented_cursor_is_refused(client: Client, path: str, cursor: str) -> None:
    problem = check_problem(client.get(f"{path}?cursor={cursor}"), 422, "invalid")
    assert "cursor" in str(problem["errors"])


def test_a_nul_in_a_text_is_the_senders_error(client: Client) -> None:
    assert client.post(TOKENS, json={"name": "a\x00b"}).status_code == 422
    assert client.delete(f"{TOKENS}/a%00b").status_code in {404, 422}


def test_a_crash_tells_the_request_id_and_nothing_else(
    session: Session, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    del session
    application: FastAPI = create_app(settings)
    router = APIRouter()

    @router.get("/api/v1/crash", dependencies=[Public])
    def crash() -> None:
        raise RuntimeError("secret inside")

    application.include_router(router)
    answer = new_client(application).get("/api/v1/crash")
    problem = check_problem(answer, 500, "internal")
    assert "secret inside" not in answer.text
    assert answer.headers["x-request-id"] in str(problem["detail"])
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert caplog is not None


def test_a_lost_database_is_said_plainly(settings: Settings) -> None:
    del settings
    gone = Settings(DATABASE_URL="postgresql://127.0.0.1:1/none")  # type: ignore[call-arg]
    application = create_app(gone)
    from app.settings import get_settings

    application.dependency_overrides[get_settings] = lambda: gone
    client = new_client(application)
    answer = client.get(TOKENS, headers={"Authorization": "Bearer tb_any"})
    check_problem(answer, 503, "unavailable")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]["ok"]) == (503, False)
    assert client.get("/healthz").status_code == 200


class TestSystem:
    def test_a_well_box_is_ready(self, anonymous_client: Client) -> None:
        answer = anonymous_client.get("/readyz")
        assert answer.status_code == 200, answer.text
        assert all(check["ok"] for check in answer.json()["checks"].values())

    def test_prometheus_reads_counts_from_this_machine(self, anonymous_client: Client) -> None:
        text = anonymous_client.get("/metrics").text
        assert 'tunebox_jobs{status="queued"} 0' in text

    def test_another_machine_needs_a_token_for_metrics(self, application: FastAPI) -> None:
        stranger = Client(application, base_url="http://localhost", client=("10.1.2.3", 1))
        assert stranger.get("/metrics").status_code in {401, 503}

    def test_the_openapi_document_is_3_1_and_names_our_paths(
        self, anonymous_client: Client
    ) -> None:
        document = anonymous_client.get("/api/v1/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        assert {"/api/v1/users", "/api/v1/tokens", "/healthz"} <= set(document["paths"])
        for methods in document["paths"].values():
            for call in methods.values():
                assert set(call["responses"]["default"]["content"]) == {"application/problem+json"}
        assert "HTTPValidationError" not in str(document)

    def test_every_answer_carries_the_security_headers(self, anonymous_client: Client) -> None:
        for path in ("/healthz", "/api/v1/nothing", "/nothing", "/login"):
            headers = anonymous_client.get(path).headers
            assert "script-src 'self'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("token tb_abcdefgh12345 used", "token tb_••• used"),
        ("GET /join/abcdefghijkl", "GET /join/•••"),
        ("postgresql://ada:secret@db/x", "postgresql://ada:•••@db/x"),
        ("a plain text: 12 tokens", "a plain text: 12 tokens"),
    ],
)
def test_logs_hold_no_secrets(text: str, left: str) -> None:
    assert scrub_text(text) == left
