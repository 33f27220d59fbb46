"""Uploads in pieces over HTTP: the tus protocol, whose they are, what ends them, the quota."""

import base64
import gzip
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.datasets.arriving import uploads
from app.datasets.models import DatasetVersion, Upload
from app.kit.clock import utc_now
from app.settings import Settings, get_settings
from tests.fixtures import builders
from tests.fixtures.client import Client

UPLOADS, DATASETS = "/api/v1/uploads", "/api/v1/datasets"
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
CONTENT = builders.jsonl([builders.conversation(f"Box {n}?", f"{n} lamps.") for n in range(3)])


def metadata(**values: bytes) -> str:
    return ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in values.items())


def begin(
    client: Client,
    size: int = len(CONTENT),
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Any:
    given = {"Upload-Length": str(size), "Upload-Metadata": metadata(filename=b"rows.jsonl")}
    kind = PIECE if body else TUS
    return client.post(UPLOADS, content=body, headers={**kind, **given, **(headers or {})})


def begun(client: Client, size: int = len(CONTENT)) -> str:
    answer = begin(client, size)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def send(client: Client, url: str, content: bytes, *, offset: int = 0) -> Any:
    return client.patch(url, content=content, headers={**PIECE, "Upload-Offset": str(offset)})


def offset(client: Client, url: str) -> int:
    return int(client.head(url, headers=TUS).headers["upload-offset"])


def finish(client: Client, url: str, headers: dict[str, str] | None = None, **fields: str) -> Any:
    fields = {"upload": url.rsplit("/", 1)[1], **fields}
    parts = {name: (None, value) for name, value in fields.items()}
    return client.post(DATASETS, files=parts, headers=headers)


def kept_files() -> list[Path]:
    return [path for path in (get_settings().data_folder / "storage").rglob("*") if path.is_file()]


def set_quota(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv("TUNEBOX_USER_QUOTA_BYTES", str(size))
    get_settings.cache_clear()


def test_a_file_in_pieces_becomes_a_dataset(member_client: Client, session: Session) -> None:
    url = begun(member_client)

    for start in range(0, len(CONTENT), 100):
        answer = send(member_client, url, CONTENT[start : start + 100], offset=start)
        assert answer.status_code == 204, answer.text
        assert int(answer.headers["upload-offset"]) == min(start + 100, len(CONTENT))
    made = finish(member_client, url, name="boxes")

    assert made.status_code == 201, made.text
    dataset = made.json()
    assert (dataset["name"], dataset["status"]) == ("boxes", "checking")
    assert dataset["versions"][0]["filename"] == "rows.jsonl"
    assert member_client.get(f"{DATASETS}/{dataset['id']}/file").content == CONTENT
    assert session.scalar(select(func.count()).select_from(Upload)) == 0
    assert len(kept_files()) == 1


def test_the_server_says_what_it_can_do(client: Client) -> None:
    answer = client.options(UPLOADS)

    assert (answer.status_code, answer.headers["tus-version"]) == (204, "1.0.0")
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "expiration",
        "termination",
    }
    assert int(answer.headers["tus-max-size"]) == get_settings().max_upload_bytes
    assert "access-control-allow-origin" not in answer.headers


def test_the_first_piece_may_come_with_the_beginning(client: Client) -> None:
    answer = begin(client, body=CONTENT[:50])

    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "50")
    assert "upload-expires" in answer.headers
    assert offset(client, answer.headers["location"]) == 50


def test_a_piece_for_another_place_is_refused_and_the_place_told(client: Client) -> None:
    url = begun(client)
    send(client, url, CONTENT[:50])

    answer = send(client, url, CONTENT, offset=0)

    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_offset")
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert offset(client, url) == 50


def test_more_bytes_than_announced_are_refused(client: Client) -> None:
    url = begun(client, 10)

    assert send(client, url, b"x" * 11).status_code == 413
    assert offset(client, url) == 0


def test_only_the_owner_goes_on_finishes_or_gives_up(
    client: Client, member_client: Client, viewer_client: Client
) -> None:
    url = begun(member_client)

    assert begin(viewer_client).status_code == 403
    assert client.head(url, headers=TUS).status_code == 404
    assert send(client, url, CONTENT).status_code == 404
    assert client.delete(url, headers=TUS).status_code == 404
    assert finish(client, url).status_code == 404
    assert client.get(UPLOADS).json()["items"] == []
    assert [one["bytes"] for one in member_client.get(UPLOADS).json()["items"]] == [len(CONTENT)]


def test_what_is_given_up_is_gone(client: Client) -> None:
    url = begun(client)
    send(client, url, CONTENT[:50])

    assert client.delete(url, headers=TUS).status_code == 204
    assert client.head(url, headers=TUS).status_code == 404
    assert finish(client, url).json()["code"] == "upload_gone"
    assert kept_files() == []


def test_an_upload_that_is_not_whole_makes_no_dataset_and_stays(client: Client) -> None:
    url = begun(client)
    send(client, url, CONTENT[:50])

    answer = finish(client, url)

    assert (answer.status_code, answer.json()["code"]) == (409, "upload_incomplete")
    assert offset(client, url) == 50


def test_a_wrong_name_keeps_the_upload_for_another_try(client: Client) -> None:
    url = begun(client)
    send(client, url, CONTENT)

    assert finish(client, url, name="a/b").status_code == 422
    assert finish(client, url, name="a-b").status_code == 201


def test_another_request_on_the_same_upload_waits_its_turn(
    client: Client, settings: Settings, session: Session
) -> None:
    url = begun(client)
    path = uploads.path_of(settings, session.scalars(select(Upload)).one())

    with uploads.parts.held(path):
        answer = send(client, url, CONTENT)

    assert (answer.status_code, answer.json()["code"]) == (409, "upload_busy")
    assert send(client, url, CONTENT).status_code == 204


def test_a_killed_server_loses_nothing_and_another_goes_on(
    client: Client, application: FastAPI, settings: Settings, session: Session
) -> None:
    """Killed in mid-piece: more lies in the file than the database knows of."""
    from app.main import create_app

    url = begun(client)
    send(client, url, CONTENT[:40])
    path = uploads.path_of(settings, session.scalars(select(Upload)).one())
    with path.open("ab") as part:
        part.write(CONTENT[40:70])
    again = create_app(settings)
    again.dependency_overrides = application.dependency_overrides
    fresh = Client(again, base_url="http://localhost", client=("127.0.0.1", 50000))
    fresh.headers.update(client.headers)
    fresh.cookies.update(client.cookies)

    assert offset(fresh, url) == 70
    assert send(fresh, url, CONTENT[70:], offset=70).status_code == 204
    dataset = finish(fresh, url).json()
    assert fresh.get(f"{DATASETS}/{dataset['id']}/file").content == CONTENT


def test_no_bytes_are_a_file_too(client: Client) -> None:
    url = begun(client, 0)

    assert finish(client, url, name="empty").json()["bytes"] == 0


def test_finishing_twice_with_one_key_makes_one_dataset(client: Client) -> None:
    url, key = begun(client), {"Idempotency-Key": "k1"}
    send(client, url, CONTENT)

    first, again = finish(client, url, key), finish(client, url, key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]


def test_a_file_above_the_limit_is_refused_before_a_byte_is_sent(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBOX_MAX_UPLOAD_BYTES", "100")
    get_settings.cache_clear()

    assert begin(client, 101).status_code == 413
    assert begin(client, 100).status_code == 201


def test_a_file_larger_than_the_disk_is_refused_before_a_byte_is_sent(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBOX_MAX_UPLOAD_BYTES", str(2**60))
    get_settings.cache_clear()

    assert begin(client, 2**59).json()["code"] == "no_space"
    assert kept_files() == []


def test_what_is_no_dataset_is_refused_by_its_first_bytes(client: Client) -> None:
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    head = metadata(filename=b"rows.jsonl", head=picture)

    answer = begin(client, headers={"Upload-Metadata": head})

    assert (answer.status_code, answer.json()["code"]) == (415, "wrong_kind")
    assert "PNG" in answer.json()["detail"]
    good = metadata(filename=b"rows.jsonl", head=base64.b64encode(CONTENT[:100]))
    assert begin(client, headers={"Upload-Metadata": good}).status_code == 201


@pytest.mark.parametrize(
    "content",
    [
        CONTENT,
        b"prompt,completion\na,b\n" * 100,
        gzip.compress(CONTENT + random.Random(7).randbytes(9000).hex().encode(), mtime=0),
        b"PAR1" + bytes(9),
    ],
)
def test_what_may_be_a_dataset_is_let_in_by_its_first_bytes(client: Client, content: bytes) -> None:
    """Packed and binary files are seen only in part here; the check sees all of them."""
    head = metadata(filename=b"rows", head=base64.b64encode(content[:1024]))

    assert begin(client, headers={"Upload-Metadata": head}).status_code == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412),
        ({"Upload-Length": "-1"}, 422),
        ({"Upload-Length": "many"}, 422),
        ({"Upload-Metadata": "filename ###"}, 422),
    ],
)
def test_a_wrong_header_is_told(client: Client, headers: dict[str, str], status: int) -> None:
    answer = begin(client, headers=headers)

    assert answer.status_code == status
    assert answer.json()["detail"]


def test_a_piece_says_that_it_is_one(client: Client) -> None:
    url = begun(client)

    answer = client.patch(url, content=CONTENT, headers={**TUS, "Upload-Offset": "0"})

    assert answer.status_code == 415


def test_a_file_name_never_becomes_a_path(client: Client) -> None:
    name = metadata(filename=b"../../..\\evil/rows.jsonl")
    url = begin(client, headers={"Upload-Metadata": name}).headers["location"]
    send(client, url, CONTENT)

    dataset = finish(client, url).json()

    assert dataset["versions"][0]["filename"] == "rows.jsonl"
    assert client.head(f"{UPLOADS}/..%2F..%2Fetc", headers=TUS).status_code == 404


def test_what_is_left_for_a_day_is_swept(
    client: Client, session: Session, settings: Settings
) -> None:
    old, new = begun(client), begun(client)
    row = session.get_one(Upload, old.rsplit("/", 1)[1])
    row.updated_at = utc_now() - timedelta(days=2)
    path = uploads.path_of(settings, row)
    session.commit()

    assert uploads.sweep(session, settings=settings) == 0  # bytes came a moment ago
    os.utime(path, (0, 0))
    assert uploads.sweep(session, settings=settings) == 1
    session.commit()

    assert client.head(old, headers=TUS).status_code == 404
    assert offset(client, new) == 0
    assert len(kept_files()) == 1


def test_an_upload_counts_towards_the_quota_from_its_beginning(
    member_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_quota(monkeypatch, 2 * len(CONTENT) - 1)
    url = begun(member_client)

    answer = begin(member_client)

    assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded")
    assert "iscard unfinished uploads (300 B)" in answer.json()["detail"]
    send(member_client, url, CONTENT)
    assert finish(member_client, url).status_code == 201


def test_the_quota_says_what_is_used_and_what_to_delete(
    member_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_quota(monkeypatch, 2 * len(CONTENT) - 1)
    file = {"file": ("rows.jsonl", CONTENT)}
    made = member_client.post(DATASETS, files=file, data={"name": "old boxes"}).json()

    answer = member_client.post(DATASETS, files=file, data={"name": "new boxes"})

    assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded")
    assert "old boxes" in answer.json()["detail"]
    assert len(kept_files()) == 1
    member_client.delete(f"{DATASETS}/{made['id']}")
    assert member_client.post(DATASETS, files=file, data={"name": "new"}).status_code == 201


def test_a_long_plain_upload_is_refused_by_its_length_or_while_it_comes(
    member_client: Client, monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    set_quota(monkeypatch, 1000)
    long = b'{"a": 1}\n' * 20_000
    file = {"file": ("rows.jsonl", long)}

    by_length = member_client.post(DATASETS, files=file)
    unknown = member_client.post(
        DATASETS,
        content=iter([_multipart(long)]),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )

    assert [by_length.json()["code"], unknown.json()["code"]] == ["quota_exceeded"] * 2
    assert session.scalar(select(func.count()).select_from(DatasetVersion)) == 0
    assert kept_files() == []


def _multipart(content: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    return head + content + b"\r\n--b--\r\n"


def test_one_source_at_a_time(client: Client) -> None:
    url = begun(client, 0)
    fields = {"upload": url.rsplit("/", 1)[1]}

    both = client.post(DATASETS, files={"file": ("a.jsonl", CONTENT)}, data=fields)

    assert both.status_code == 422
    assert both.json()["errors"][0]["field"] == "file"
