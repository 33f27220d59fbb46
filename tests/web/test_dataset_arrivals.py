"""Files and rows come in through the pages without any script, and refusals say what to do."""

import re
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.datasets.models import Dataset, DatasetVersion
from app.kit.storage import get_storage
from app.settings import get_settings
from tests.fixtures import builders
from tests.fixtures.client import Client

ROWS = '{"messages": [{"role": "user", "content": "Box?"}]}'
FRAGMENT = {"HX-Request": "true", "HX-Request-Type": "partial"}
TUS = {"Tus-Resumable": "1.0.0", "Upload-Metadata": "filename cm93cy5qc29ubA=="}


def form(client: Client, **fields: str) -> dict[str, tuple[None, str]]:
    """Return what a browser posts as multipart from a form with its hidden token."""
    token = client.actor.csrf_token or ""
    return {name: (None, value) for name, value in {"csrf_token": token, **fields}.items()}


def without_script(client: Client) -> Client:
    """Send no header that only a script can set."""
    client.headers.pop("x-csrf-token")
    return client


def version(session: Session) -> DatasetVersion:
    return session.scalars(select(DatasetVersion)).one()


def test_a_plain_form_post_opens_the_new_dataset(member_client: Client, session: Session) -> None:
    client = without_script(member_client)
    page = client.get("/datasets").text
    assert 'enctype="multipart/form-data"' in page
    file = {"file": ("rows.jsonl", ROWS.encode())}

    answer = client.post("/datasets", files={**form(client, name="boxes"), **file})

    assert answer.status_code == 303
    dataset = session.scalars(select(Dataset)).one()
    assert answer.headers["location"] == f"/datasets/{dataset.id}"
    assert dataset.name == "boxes"


def test_a_refused_form_post_leads_back_with_the_reason(
    member_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBOX_USER_QUOTA_BYTES", "10")
    get_settings.cache_clear()
    client = without_script(member_client)
    file = {"file": ("rows.jsonl", ROWS.encode())}

    answer = client.post("/datasets", files={**form(client), **file})

    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets")
    assert "does not fit into your quota" in client.get("/datasets").text


def test_pasted_rows_become_a_dataset_with_the_line_ends_of_files(
    member_client: Client, session: Session
) -> None:
    client = without_script(member_client)
    assert "<textarea" in client.get("/datasets/paste").text

    answer = client.post("/datasets/paste", files=form(client, text=f"{ROWS}\r\n{ROWS}", name=""))

    assert answer.status_code == 303
    made = version(session)
    with get_storage(get_settings()).open(made.storage_key) as stored:
        assert stored.read() == f"{ROWS}\n{ROWS}\n".encode()
    assert session.scalars(select(Dataset.name)).all() == ["Pasted rows"]


def test_pasted_rows_become_a_version(member_client: Client, session: Session) -> None:
    owner = member_client.actor
    first = builders.create_dataset_version(session, owner=owner)
    page = member_client.get(f"/datasets/paste?dataset={first.dataset_id}").text
    assert f'value="{first.dataset_id}"' in page

    member_client.post(
        "/datasets/paste", files=form(member_client, text=ROWS, dataset=first.dataset_id)
    )

    numbers = session.scalars(select(DatasetVersion.number).order_by(DatasetVersion.number)).all()
    assert list(numbers) == [1, 2]


@pytest.mark.parametrize("headers", [{}, FRAGMENT])
def test_a_wrong_paste_is_told_at_its_field_and_the_text_is_kept(
    member_client: Client, headers: dict[str, str]
) -> None:
    fields = form(member_client, text=ROWS, name="a/b")

    answer = member_client.post("/datasets/paste", files=fields, headers=headers)
    empty = member_client.post("/datasets/paste", files=form(member_client, text=" \r\n "))

    assert answer.status_code == 422
    assert "A name is no path" in answer.text
    assert "&#34;role&#34;: &#34;user&#34;" in answer.text
    assert ("<html" in answer.text) == (not headers)
    assert "Paste at least one row" in empty.text


def test_a_paste_that_is_too_long_belongs_into_a_file(member_client: Client) -> None:
    answer = member_client.post(
        "/datasets/paste", files=form(member_client, text="x" * (5 * 2**20))
    )

    assert answer.status_code == 413
    assert "drop the file" in answer.text


def test_a_file_of_the_box_is_taken_without_a_script(
    member_client: Client, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "/datasets/import" not in member_client.get("/datasets").text
    assert "Imports are off" in member_client.get("/datasets/import").text
    (tmp_path / "boxes.jsonl").write_text(ROWS)
    monkeypatch.setenv("TUNEBOX_IMPORT_FOLDER", str(tmp_path))
    get_settings.cache_clear()
    client = without_script(member_client)
    assert "/datasets/import" in client.get("/datasets").text
    found = re.search(r'name="import" value="(imp_\w+)"', client.get("/datasets/import").text)
    assert found is not None

    answer = client.post("/datasets", files=form(client, **{"import": found[1]}))

    assert answer.status_code == 303
    assert version(session).filename == "boxes.jsonl"


def test_unfinished_uploads_are_shown_added_and_discarded_without_a_script(
    member_client: Client, session: Session
) -> None:
    half = member_client.post("/api/v1/uploads", headers={**TUS, "Upload-Length": "100"})
    whole = member_client.post("/api/v1/uploads", headers={**TUS, "Upload-Length": "0"})
    ids = [answer.headers["location"].rsplit("/", 1)[1] for answer in (half, whole)]
    client = without_script(member_client)
    page = client.get("/datasets").text
    assert "0 B of 100 B are here" in page
    assert f'name="upload" value="{ids[1]}"' in page

    client.post("/datasets", files=form(client, upload=ids[1]))
    gone = client.post(
        f"/datasets/uploads/{ids[0]}/discard", data={"csrf_token": client.actor.csrf_token or ""}
    )

    assert gone.headers["location"] == "/datasets"
    assert version(session).filename == "rows.jsonl"
    assert "data-unfinished" not in client.get("/datasets").text


def test_viewers_get_no_way_in(viewer_client: Client) -> None:
    assert "data-upload" not in viewer_client.get("/datasets").text
    assert viewer_client.get("/datasets/paste").status_code == 403
    assert viewer_client.get("/datasets/import").status_code == 403


def test_admins_see_who_takes_how_much_room(
    client: Client, member_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBOX_USER_QUOTA_BYTES", "5000")
    get_settings.cache_clear()
    member_client.post("/api/v1/uploads", headers={**TUS, "Upload-Length": "1234"})

    assert "1.23 kB" in client.get("/team").text
    assert "of 5 kB" in client.get("/team").text
    assert "of 5 kB" not in member_client.get("/team").text
