"""Files of a folder on the box become datasets, and nothing outside of it ever does."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.datasets.arriving import importing
from app.errors import Conflict
from app.jobs.state import FailureKind
from app.settings import get_settings
from tests.api.test_datasets import analysed
from tests.fixtures import builders
from tests.fixtures.client import Client

IMPORTS, DATASETS = "/api/v1/imports", "/api/v1/datasets"
CONTENT = builders.jsonl([builders.conversation("Box?", "Three lamps.")])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "import"
    (made / "team").mkdir(parents=True)
    (made / "team" / "boxes.jsonl").write_bytes(CONTENT)
    (tmp_path / "secret.jsonl").write_bytes(b"secret")
    monkeypatch.setenv("TUNEBOX_IMPORT_FOLDER", str(made))
    get_settings.cache_clear()
    return made


def listed(client: Client) -> dict[str, dict[str, Any]]:
    return {file["name"]: file for file in client.get(IMPORTS).json()["items"]}


def take(client: Client, import_id: str, **fields: str) -> Any:
    parts = {name: (None, value) for name, value in {"import": import_id, **fields}.items()}
    return client.post(DATASETS, files=parts)


def kept_files() -> list[Path]:
    return [path for path in (get_settings().data_folder / "storage").rglob("*") if path.is_file()]


def test_a_listed_file_becomes_a_dataset(member_client: Client, folder: Path) -> None:
    file = listed(member_client)["team/boxes.jsonl"]

    made = take(member_client, file["id"])

    assert made.status_code == 201, made.text
    dataset = made.json()
    assert (dataset["name"], dataset["bytes"]) == ("boxes", file["bytes"])
    assert member_client.get(f"{DATASETS}/{dataset['id']}/file").content == CONTENT
    assert (folder / "team" / "boxes.jsonl").read_bytes() == CONTENT
    assert len(kept_files()) == 1


def test_imports_are_off_unless_an_admin_names_a_folder(client: Client) -> None:
    assert client.get(IMPORTS).json()["code"] == "imports_off"
    assert take(client, "imp_0").json()["code"] == "imports_off"


def test_viewers_and_strangers_see_no_folder(
    viewer_client: Client, anonymous_client: Client, folder: Path
) -> None:
    assert viewer_client.get(IMPORTS).status_code == 403
    assert anonymous_client.get(IMPORTS).status_code == 401
    assert folder.exists()


def test_links_hidden_files_and_pipes_are_not_listed(client: Client, folder: Path) -> None:
    (folder / "out.jsonl").symlink_to(folder.parent / "secret.jsonl")
    (folder / "up").symlink_to(folder.parent)
    (folder / ".hidden.jsonl").write_bytes(b"x")
    os.mkfifo(folder / "pipe.jsonl")

    assert set(listed(client)) == {"team/boxes.jsonl"}


@pytest.mark.parametrize(
    "sent", ["../secret.jsonl", "/etc/passwd", "team/boxes.jsonl", "imp_", "imp_" + "0" * 24, "\0"]
)
def test_a_path_is_no_id(client: Client, folder: Path, sent: str) -> None:
    answer = take(client, sent)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["import"]
    assert kept_files() == []
    assert folder.exists()


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_who_swaps_it_for_a_link_in_between_gains_nothing(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """The swap happens between the look at the folder and the opening of the file."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "boxes.jsonl").write_bytes(b"secret")
    import_id = listed(client)["team/boxes.jsonl"]["id"]
    look = importing._walk

    def swapping(root: Path) -> list[Path]:
        found = list(look(root))
        (folder / "team" / "boxes.jsonl").unlink()
        if swapped == "file":
            (folder / "team" / "boxes.jsonl").symlink_to(outside / "boxes.jsonl")
        else:
            (folder / "team").rmdir()
            (folder / "team").symlink_to(outside)
        return found

    monkeypatch.setattr(importing, "_walk", swapping)

    answer = take(client, import_id)

    assert answer.status_code == 422
    assert kept_files() == []


def test_an_import_keeps_to_the_limit_and_the_quota(
    member_client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_id = listed(member_client)["team/boxes.jsonl"]["id"]
    monkeypatch.setenv("TUNEBOX_USER_QUOTA_BYTES", "10")
    get_settings.cache_clear()
    assert take(member_client, import_id).json()["code"] == "quota_exceeded"

    monkeypatch.delenv("TUNEBOX_USER_QUOTA_BYTES")
    monkeypatch.setenv("TUNEBOX_MAX_UPLOAD_BYTES", "10")
    get_settings.cache_clear()
    assert take(member_client, import_id).json()["code"] == "too_large"
    assert kept_files() == []
    assert folder.exists()


def test_a_name_in_odd_bytes_can_be_shown_and_taken(client: Client, folder: Path) -> None:
    odd = os.fsencode(folder) + b"/caf\xe9\n.jsonl"
    with open(odd, "wb") as file:  # noqa: PTH123  # a path in bytes
        file.write(CONTENT)

    name = next(name for name in listed(client) if name.startswith("caf"))

    assert name.isprintable()
    assert take(client, listed(client)[name]["id"], name="odd").status_code == 201


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as large."""
    monkeypatch.setattr(importing, "LARGE", 1)


def test_a_large_file_is_copied_by_the_job_that_checks_it(
    member_client: Client, session: Session, folder: Path, large: None
) -> None:
    file = listed(member_client)["team/boxes.jsonl"]

    made = take(member_client, file["id"])

    dataset = made.json()
    assert (made.status_code, dataset["status"], kept_files()) == (201, "checking", [])
    assert (dataset["bytes"], dataset["sha256"]) == (file["bytes"], None)
    early = member_client.get(f"{DATASETS}/{dataset['id']}/file")
    assert (early.status_code, early.json()["code"]) == (409, "dataset_not_made")
    told: list[str] = []

    version = analysed(session, dataset, lambda _share, sentence: told.append(sentence))

    assert told[0].startswith("copying: ")
    assert (version.status, version.examples, version.recipe) == ("ready", 1, None)
    assert version.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert member_client.get(f"{DATASETS}/{dataset['id']}/file").content == CONTENT
    assert not [path for path in kept_files() if path.name.endswith("-unmade")]


def test_a_large_file_that_is_gone_when_its_turn_comes_is_said(
    client: Client, session: Session, folder: Path, large: None
) -> None:
    dataset = take(client, listed(client)["team/boxes.jsonl"]["id"]).json()
    (folder / "team" / "boxes.jsonl").unlink()

    with pytest.raises(Conflict, match="no such file in the import folder") as raised:
        analysed(session, dataset)

    assert raised.value.code == FailureKind.BAD_DATASET
    assert kept_files() == []


def test_a_large_file_that_the_dataset_has_already_makes_no_second_version(
    client: Client, session: Session, folder: Path, large: None
) -> None:
    import_id = listed(client)["team/boxes.jsonl"]["id"]
    first = take(client, import_id).json()
    analysed(session, first)
    second = take(client, import_id, dataset=first["id"]).json()

    with pytest.raises(Conflict, match="is what version 1 is already"):
        analysed(session, second)

    assert not [path for path in kept_files() if path.name.endswith("-unmade")]


def test_a_large_file_keeps_to_the_quota_before_anything_is_made(
    member_client: Client, folder: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBOX_USER_QUOTA_BYTES", "10")
    get_settings.cache_clear()

    import_id = listed(member_client)["team/boxes.jsonl"]["id"]

    assert take(member_client, import_id).json()["code"] == "quota_exceeded"
    assert member_client.get(DATASETS).json()["total"] == 0
