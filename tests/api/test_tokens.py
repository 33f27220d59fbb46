"""Token reports and previews over the API."""

import json
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.basemodels.models import BaseModelRow
from app.datasets.models import DatasetVersion, TokenReport
from app.kit.clock import utc_now
from app.kit.storage import model_folder
from app.settings import Settings, get_settings
from tests.fixtures import builders
from tests.fixtures.client import Client
from tests.fixtures.tiny_model import make_tokenizer

DATASETS = "/api/v1/datasets"


@pytest.fixture
def version(session: Session, settings: Settings) -> DatasetVersion:
    del settings
    return builders.create_dataset_version(session)


@pytest.fixture
def model(session: Session, settings: Settings) -> BaseModelRow:
    del settings
    row = builders.create_base_model(session)
    folder = model_folder(get_settings(), row.folder)
    make_tokenizer().save_pretrained(folder)
    Path(folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return row


def test_a_report_is_queued_once_and_answered_with_its_state(
    member_client: Client, session: Session, version: DatasetVersion, model: BaseModelRow
) -> None:
    path = f"{DATASETS}/{version.dataset_id}/token_report?wait=0"
    for _ in range(2):
        answer = member_client.post(path, json={"base_model": model.id, "max_length": 512})
        assert answer.status_code == 202
        assert answer.json()["status"] == "running"
    jobs = member_client.get("/api/v1/jobs").json()["items"]
    assert [job["kind"] for job in jobs] == ["token_report"]
    report = session.query(TokenReport).one()
    report.result, report.finished_at = {"rows": 20, "lengths": {}}, utc_now()
    answer = member_client.post(path, json={"base_model": model.id, "max_length": 512})
    assert (answer.status_code, answer.json()["rows"]) == (200, 20)


def test_a_preview_has_every_token_of_the_row(
    client: Client, version: DatasetVersion, model: BaseModelRow
) -> None:
    answer = client.get(
        f"{DATASETS}/{version.dataset_id}/preview", params={"line": "3", "base_model": model.id}
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert "".join(token["text"] for token in body["tokens"]) == (
        "<|im_start|>user\nTicket 2?<|im_end|>\n<|im_start|>assistant\nAnswer 2.<|im_end|>\n"
    )
    trained = [token for token in body["tokens"] if token["trained"]]
    assert "".join(token["text"] for token in trained) == "Answer 2.<|im_end|>"
    assert (body["trained"], body["total"]) == (len(trained), len(body["tokens"]))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"line": "99"}, (404, "not_found")),
        ({"base_model": "mdl_none"}, (422, "invalid")),
        ({"line": "0"}, (422, "invalid")),
    ],
)
def test_what_there_is_not_is_said(
    client: Client,
    version: DatasetVersion,
    model: BaseModelRow,
    *,
    what: dict[str, str],
    told: tuple[int, str],
) -> None:
    asked = {"line": "1", "base_model": model.id, **what}
    answer = client.get(f"{DATASETS}/{version.dataset_id}/preview", params=asked)
    assert (answer.status_code, answer.json()["code"]) == told


def test_pairs_and_unchecked_versions_have_no_tokens(
    client: Client, session: Session, model: BaseModelRow
) -> None:
    pairs = builders.create_dataset_version(session, format="preference", name="pairs")
    fresh = builders.create_dataset_version(session, status="checking", name="fresh")
    for one, code in ((pairs, "not_one_conversation"), (fresh, "dataset_not_checked")):
        answer = client.post(
            f"{DATASETS}/{one.dataset_id}/token_report",
            json={"base_model": model.id, "max_length": 64},
        )
        assert (answer.status_code, answer.json()["code"]) == (409, code)


def test_a_viewer_may_look_but_not_queue(
    viewer_client: Client, version: DatasetVersion, model: BaseModelRow
) -> None:
    path = f"{DATASETS}/{version.dataset_id}"
    body = {"base_model": model.id, "max_length": 64}
    assert viewer_client.post(f"{path}/token_report", json=body).status_code == 403
    asked = {"line": "1", "base_model": model.id}
    assert viewer_client.get(f"{path}/preview", params=asked).status_code == 200
