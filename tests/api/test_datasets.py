"""Datasets over HTTP: uploaded in a stream, checked by a job, read by line, deleted by owners."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.models import AuditRow
from app.datasets import analysis, reading, repository
from app.datasets.models import DatasetVersion, ProblemRow
from app.datasets.problems import Code
from app.jobs.models import Job
from app.kit.storage import get_storage
from app.settings import Settings, get_settings
from tests.fixtures import builders
from tests.fixtures.client import Client

DATASETS = "/api/v1/datasets"
GOOD = [
    builders.conversation(f"What is in box {n}?", f"Box {n} holds {n} lamps.") for n in range(3)
]
CONTENT = builders.jsonl(GOOD)
BAD = CONTENT + b'{"messages": []}\n\n' + builders.jsonl(GOOD[:1]) + b"[1]\n"


def upload(client: Client, content: bytes = CONTENT, **fields: Any) -> Any:
    name = fields.pop("filename", "rows.jsonl")
    headers = fields.pop("headers", None)
    return client.post(DATASETS, files={"file": (name, content)}, data=fields, headers=headers)


def analysed(
    session: Session,
    dataset: dict[str, Any],
    progress: analysis.Progress = lambda _share, _sentence: None,
) -> DatasetVersion:
    """Check the newest version of an uploaded dataset, as the worker does."""
    version = session.get_one(DatasetVersion, dataset["versions"][0]["id"])

    @contextmanager
    def opened() -> Iterator[Session]:
        yield session
        session.flush()

    storage = get_storage(get_settings())
    analysis.analyse(opened, storage=storage, version_id=version.id, progress=progress)
    return version


def checked(client: Client, session: Session, content: bytes = BAD) -> dict[str, Any]:
    made = upload(client, content, name="boxes").json()
    analysed(session, made)
    return client.get(f"{DATASETS}/{made['id']}").json()


def kept_files() -> list[Path]:
    return [path for path in (get_settings().data_folder / "storage").rglob("*") if path.is_file()]


def test_an_upload_is_stored_named_and_queued_for_its_check(
    member_client: Client, session: Session
) -> None:
    answer = upload(member_client, name="boxes")

    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["name"], made["version"], made["status"]) == ("boxes", 1, "checking")
    assert (made["owner"], made["bytes"]) == (member_client.actor.id, len(CONTENT))
    job = session.scalars(select(Job)).one()
    assert (job.kind, job.subject_id) == ("analyse_dataset", made["versions"][0]["id"])
    audit = session.scalars(select(AuditRow).where(AuditRow.action == "dataset.upload")).one()
    assert audit.subject_id == made["id"]


def test_the_same_bytes_under_the_same_dataset_are_the_same_version(
    client: Client, session: Session
) -> None:
    first = upload(client, name="boxes").json()

    again = upload(client, dataset=first["id"])
    other = upload(client, CONTENT + b"\n", dataset=first["id"]).json()

    assert (again.status_code, again.json()["version"]) == (201, 1)
    assert [version["version"] for version in other["versions"]] == [2, 1]
    assert len(kept_files()) == 2


def test_the_same_key_uploads_once_and_another_body_is_a_conflict(client: Client) -> None:
    headers = {"Idempotency-Key": "k1"}

    first = upload(client, name="boxes", headers=headers).json()

    assert upload(client, name="boxes", headers=headers).json()["id"] == first["id"]
    assert upload(client, name="other", headers=headers).status_code == 409
    assert len(kept_files()) == 1


def test_an_upload_that_a_killed_server_left_behind_goes_after_a_day(client: Client) -> None:
    storage = get_storage(get_settings())
    for name in ("old", "new"):
        with storage.open(f"uploads/{name}", "wb") as part:
            part.write(b"half")
    old = storage.local_path("uploads/old")
    assert old is not None
    os.utime(old, (0, 0))

    upload(client)

    assert (storage.exists("uploads/old"), storage.exists("uploads/new")) == (False, True)


def test_a_checked_dataset_tells_its_problems_by_line(client: Client, session: Session) -> None:
    dataset = checked(client, session)
    url = f"{DATASETS}/{dataset['id']}/problems"

    found = client.get(url).json()

    assert (dataset["status"], dataset["format"], dataset["examples"]) == ("invalid", "messages", 4)
    assert (dataset["errors"], dataset["warnings"]) == (2, 2)
    assert [(item["line"], item["code"]) for item in found["items"]] == [
        (4, "empty_messages"),
        (5, "blank_line"),
        (6, "duplicate_row"),
        (7, "not_an_object"),
    ]
    assert found["by_code"]["empty_messages"] == 1
    assert client.get(f"{url}?code=blank_line").json()["total"] == 1
    assert client.get(f"{url}?severity=error").json()["total"] == 2
    assert client.get(f"{url}?code=nonsense").status_code == 422


def test_problems_come_in_pages(client: Client, session: Session) -> None:
    url = f"{DATASETS}/{checked(client, session)['id']}/problems?limit=3"

    first = client.get(url).json()
    second = client.get(url, params={"limit": 3, "cursor": first["next"]}).json()

    assert [item["line"] for item in first["items"] + second["items"]] == [4, 5, 6, 7]
    assert (first["total"], second["next"]) == (4, None)


def test_the_file_comes_back_byte_for_byte_or_cleaned(client: Client, session: Session) -> None:
    url = f"{DATASETS}/{checked(client, session)['id']}/file"

    assert client.get(url).content == BAD
    assert client.get(f"{url}?cleaned=true").content == CONTENT + builders.jsonl(GOOD[:1])
    assert "attachment" in client.get(url).headers["content-disposition"]


def test_there_is_no_cleaned_file_before_the_check_or_without_good_rows(
    client: Client, session: Session
) -> None:
    made = upload(client, b"[1]\n", name="bad").json()
    url = f"{DATASETS}/{made['id']}/file?cleaned=true"

    assert client.get(url).json()["code"] == "dataset_not_checked"
    analysed(session, made)
    assert client.get(url).json()["code"] == "no_good_rows"


def test_rows_and_statistics_are_read(client: Client, session: Session) -> None:
    url = f"{DATASETS}/{checked(client, session)['id']}"

    rows = client.get(f"{url}/examples?line=3&limit=2").json()
    statistics = client.get(f"{url}/statistics").json()["statistics"]

    assert [(row["line"], row["row"]) for row in rows["items"]] == [
        (3, GOOD[2]),
        (4, {"messages": []}),
    ]
    assert rows["next"] == 6
    assert statistics["rows"] == 4
    assert statistics["turns_by_role"] == {"user": 4, "assistant": 4}


def test_a_check_that_starts_again_leaves_one_whole_report(
    client: Client, session: Session
) -> None:
    made = upload(client, BAD, name="boxes").json()
    version = session.get_one(DatasetVersion, made["versions"][0]["id"])
    left_over = {"version_id": version.id, "line": 99, "place": 1, "code": "bom", "message": ""}
    text = {"severity": "warning", "hint": "", "excerpt": "", "mark_start": 0, "mark_end": 0}
    repository.insert_problems(session, [{**left_over, **text}])

    analysed(session, made)
    analysed(session, made)

    lines = session.scalars(select(ProblemRow.line).order_by(ProblemRow.line)).all()
    assert list(lines) == [4, 5, 6, 7]


class Killed(Exception):
    """The worker is gone."""


def test_the_first_stage_is_seen_while_the_second_runs_and_forgotten_when_it_starts_again(
    client: Client, session: Session
) -> None:
    made = upload(client, BAD, name="boxes").json()

    def kill(_share: float, sentence: str) -> None:
        if sentence.startswith("comparing"):
            raise Killed

    with pytest.raises(Killed):
        analysed(session, made, kill)

    shown = client.get(f"{DATASETS}/{made['id']}").json()
    assert (shown["status"], shown["examples"], shown["errors"]) == ("checking", 4, 2)
    assert client.get(f"{DATASETS}/{made['id']}/problems").json()["total"] == 4
    assert client.get(f"{DATASETS}/{made['id']}/examples").json()["total"] == 6
    version = session.get_one(DatasetVersion, made["versions"][0]["id"])
    assert (version.first_stage_at is None, version.checked_at is None) == (False, True)

    with pytest.raises(Killed):
        analysed(session, made, lambda _share, _sentence: _killed())
    version = session.get_one(DatasetVersion, version.id)
    assert (version.first_stage_at, version.errors, version.by_code) == (None, None, None)
    assert client.get(f"{DATASETS}/{made['id']}/problems").json()["items"] == []

    version = analysed(session, made)
    assert (version.status, version.errors) == ("invalid", 2)
    assert not (get_settings().data_folder / "checks" / version.id).exists()


def _killed() -> None:
    raise Killed


def test_a_check_that_fails_says_that_we_failed(client: Client, session: Session) -> None:
    made = upload(client, name="boxes").json()

    analysis.give_up(session, version_id=made["versions"][0]["id"], reason="The disk is full.")

    shown = client.get(f"{DATASETS}/{made['id']}").json()
    assert (shown["status"], shown["versions"][0]["failure"]) == ("failed", "The disk is full.")


def test_bad_lines_are_known_for_the_trainer(client: Client, session: Session) -> None:
    version = analysed(session, upload(client, BAD, name="boxes").json())

    assert reading.bad_lines(get_storage(get_settings()), version) == (4, 7)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "boxes", "format": "csv"}, "format"),
        ({"name": "boxes", "surprise": "1"}, "surprise"),
        ({"name": "../../etc/passwd"}, "name"),
        ({"name": "x" * 200}, "name"),
        ({"name": "boxes", "dataset": "ds_none"}, "dataset"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_kept(
    client: Client, fields: dict[str, str], field: str
) -> None:
    answer = upload(client, CONTENT, **fields)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert kept_files() == []


def test_a_file_name_with_a_path_is_reduced_to_its_last_part(client: Client) -> None:
    made = upload(client, filename="../../..\\evil/rows.jsonl").json()

    assert (made["name"], made["versions"][0]["filename"]) == ("rows", "rows.jsonl")


def test_what_is_no_upload_is_refused(client: Client) -> None:
    assert client.post(DATASETS, json={"name": "boxes"}).status_code == 415
    assert client.post(DATASETS, files={"name": (None, "boxes")}).status_code == 422
    cut = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{"mess'
    kind = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post(DATASETS, content=cut, headers=kind).json()["code"] == "truncated"
    assert kept_files() == []


def test_a_file_above_the_limit_is_refused(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBOX_MAX_UPLOAD_BYTES", "100")
    get_settings.cache_clear()

    assert upload(client, name="boxes").status_code == 413
    assert kept_files() == []
    del settings


def test_a_full_disk_is_told_and_nothing_is_kept(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError(28, f"No space left for {len(data)} bytes")

    monkeypatch.setattr("app.kit.storage.Storage.open", lambda *_: Full())

    answer = upload(client, name="boxes")

    assert (answer.status_code, answer.json()["code"]) == (507, "no_space")


def test_an_empty_file_is_taken_and_said_to_be_empty(client: Client, session: Session) -> None:
    dataset = checked(client, session, b"")

    problems = client.get(f"{DATASETS}/{dataset['id']}/problems").json()
    assert (dataset["status"], list(problems["by_code"])) == ("invalid", [Code.EMPTY_FILE])


def test_viewers_look_and_do_not_upload_or_delete(viewer_client: Client, session: Session) -> None:
    version = builders.create_dataset_version(session)

    assert upload(viewer_client, name="boxes").status_code == 403
    assert viewer_client.get(f"{DATASETS}/{version.dataset_id}").status_code == 200
    assert viewer_client.delete(f"{DATASETS}/{version.dataset_id}").status_code == 403


def test_only_the_owner_or_an_admin_deletes(
    client: Client, member_client: Client, session: Session
) -> None:
    version = builders.create_dataset_version(session)
    url = f"{DATASETS}/{version.dataset_id}"

    assert member_client.delete(url).status_code == 403
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404
    assert kept_files() == []


def test_a_dataset_that_runs_use_stays(client: Client, session: Session) -> None:
    run = builders.create_run(session, name="boxes-1")

    answer = client.delete(f"{DATASETS}/{run.dataset_id}")

    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_in_use")
    assert "boxes-1" in answer.json()["detail"]


def test_lists_are_searched_and_paged(client: Client, session: Session) -> None:
    for name in ("boxes", "lamps", "box lids"):
        builders.create_dataset_version(session, name=name)

    first = client.get(f"{DATASETS}?q=box&limit=1").json()
    second = client.get(DATASETS, params={"q": "box", "limit": 1, "cursor": first["next"]}).json()

    names = {item["name"] for item in first["items"] + second["items"]}
    assert (names, first["total"], second["next"]) == ({"boxes", "box lids"}, 2, None)


def test_nobody_reads_without_signing_in(anonymous_client: Client) -> None:
    assert anonymous_client.get(DATASETS).status_code == 401
    assert upload(anonymous_client, name="boxes").status_code == 401


def test_a_secret_never_leaves_through_the_problems(client: Client, session: Session) -> None:
    secret = "ghp_" + "a1B2" * 9
    row = builders.conversation(f"My key is {secret}", "Revoke it at once, please.")

    dataset = checked(client, session, builders.jsonl([row]))

    assert secret[:9] not in json.dumps(client.get(f"{DATASETS}/{dataset['id']}/problems").json())
