"""What may be tuned: folders of this machine and pinned hub models, read as data only."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.basemodels import fetching, service
from app.basemodels.fetching import FetchFailed
from app.basemodels.models import BaseModelRow
from app.datasets.models import Dataset
from app.demo import service as demo
from app.jobs.models import Job
from app.jobs.state import JobStatus
from app.settings import Settings
from tests.fixtures import builders
from tests.fixtures.client import Client

MODELS = "/api/v1/base_models"


def put_model(settings: Settings, name: str = "tiny") -> Path:
    settings.models_folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copytree("app/demo/model", settings.models_folder / name))


def test_a_folder_is_offered_registered_and_listed(client: Client, settings: Settings) -> None:
    put_model(settings)
    assert client.get(MODELS).json()["folders"] == ["tiny"]
    answer = client.post(MODELS, json={"folder": "tiny"})
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert (model["status"], model["source"]) == ("ready", "folder")
    assert model["facts"]["hidden_size"] == 128
    listed = client.get(MODELS).json()
    assert [one["id"] for one in listed["items"]] == [model["id"]]
    assert listed["folders"] == []
    assert client.post(MODELS, json={"folder": "tiny"}).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {"folder": "../etc"},
        {"folder": "/etc"},
        {"folder": "a/b"},
        {"folder": ""},
        {},
        {"folder": "tiny", "hub_id": "a/b"},
        {"hub_id": "no-slash"},
        {"hub_id": "https://evil.example/x"},
        {"hub_id": "a/../b"},
        {"hub_id": "a/b", "revision": "../x"},
        {"folder": "tiny", "trust_remote_code": True},
    ],
)
def test_a_path_a_url_or_an_unknown_field_is_refused(client: Client, body: dict[str, str]) -> None:
    assert client.post(MODELS, json=body).status_code == 422


def test_a_link_out_of_the_models_folder_is_refused(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    settings.models_folder.mkdir(parents=True)
    (settings.models_folder / "link").symlink_to(tmp_path)
    answer = client.post(MODELS, json={"folder": "link"})
    assert answer.status_code == 422
    assert "below the models folder" in answer.json()["detail"]


def test_what_cannot_be_tuned_says_why(client: Client, settings: Settings) -> None:
    folder = put_model(settings)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    answer = client.post(MODELS, json={"folder": "tiny"}).json()
    assert answer["code"] == "not_tunable"
    assert "pickle" in answer["detail"]


def test_a_hub_model_is_queued_for_download_once(client: Client, session: Session) -> None:
    answer = client.post(MODELS, json={"hub_id": "org/name", "revision": "v1"})
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert (model["status"], model["progress"]) == ("downloading", 0.0)
    job = session.get_one(Job, model["job"])
    assert (job.kind, job.lane, job.subject_id) == ("fetch_model", "light", model["id"])
    again = client.post(MODELS, json={"hub_id": "org/name", "revision": "v1"})
    assert again.status_code == 409


def test_a_model_stays_while_an_unfinished_run_needs_it(client: Client, session: Session) -> None:
    model = builders.create_base_model(session)
    run = builders.create_run(session, model=model, name="needs-it")
    answer = client.delete(f"{MODELS}/{model.id}")
    assert answer.status_code == 409
    assert "needs-it" in answer.json()["detail"]
    session.get_one(Job, run.job_id).status = JobStatus.SUCCEEDED
    assert client.delete(f"{MODELS}/{model.id}").status_code == 204
    assert client.get(f"{MODELS}/{model.id}").status_code == 404


def test_a_folder_that_was_removed_can_come_back(client: Client, settings: Settings) -> None:
    folder = put_model(settings)
    first = client.post(MODELS, json={"folder": "tiny"}).json()
    assert client.delete(f"{MODELS}/{first['id']}").status_code == 204
    assert folder.is_dir()
    assert client.post(MODELS, json={"folder": "tiny"}).json()["id"] == first["id"]


def test_only_its_owner_or_an_admin_removes_a_model(
    member_client: Client, session: Session
) -> None:
    model = builders.create_base_model(session)
    assert member_client.delete(f"{MODELS}/{model.id}").status_code == 403


def opened(session: Session) -> AbstractContextManager[Session]:
    @contextmanager
    def block() -> Iterator[Session]:
        yield session
        session.flush()

    return block()


def test_a_download_without_a_hub_fails_with_the_cure(
    session: Session, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    actor = builders.create_user(session)
    model = service.register_hub(session, actor=actor, hub_id="org/name")
    with pytest.raises(FetchFailed) as failure:
        fetching.fetch(
            lambda: opened(session),
            settings=settings,
            model_id=model.id,
            progress=lambda share, detail: None,
        )
    assert "cannot be reached" in failure.value.detail
    fetching.give_up(session, settings, model_id=model.id, reason=failure.value.detail)
    assert (model.status, model.failure) == ("failed", failure.value.detail)


def test_a_finished_download_is_inspected_before_it_is_ready(
    session: Session, settings: Settings
) -> None:
    model = service.register_hub(session, actor=builders.create_user(session), hub_id="org/name")
    folder = put_model(settings, model.folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FetchFailed, match="tokenizer"):
        fetching.fetch(
            lambda: opened(session),
            settings=settings,
            model_id=model.id,
            progress=lambda share, detail: None,
        )
    assert model.status == "downloading"
    put_model(settings, model.folder)
    fetching.fetch(
        lambda: opened(session),
        settings=settings,
        model_id=model.id,
        progress=lambda share, detail: None,
    )
    assert model.status == "ready"


def test_the_demo_is_put_in_place_once(session: Session, settings: Settings) -> None:
    for _ in range(2):
        demo.seed(session, settings)
    models = session.query(BaseModelRow).all()
    assert [(model.source, model.status) for model in models] == [("demo", "ready")]
    assert {one.name for one in session.query(Dataset)} == {
        "support-tickets",
        "support-tickets-preferences",
        "support-tickets-with-problems",
    }
    assert (settings.models_folder / demo.MODEL / "model.safetensors").is_file()
