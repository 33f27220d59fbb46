"""Repairs over HTTP: offered, shown as differences, made into a new version by the check's job."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.models import AuditRow
from app.datasets import analysis, making, previewing
from app.datasets.models import DatasetVersion
from app.datasets.repairs import REPAIRS
from app.errors import Conflict
from app.jobs.models import Job
from app.kit.storage import get_storage
from app.settings import get_settings
from tests.fixtures import builders
from tests.fixtures.client import Client

DATASETS = "/api/v1/datasets"
SECRET = "ghp_" + "a1B2" * 9
ROWS = [
    builders.conversation(f"What is in box {n}?", f"Box {n} holds {n} lamps.") for n in range(4)
]
GOOD = builders.jsonl(ROWS)
ODD = builders.jsonl([builders.conversation("Who is there?", "Only the night guard is.")])
LEAK = builders.jsonl([builders.conversation(f"Is {SECRET} a key?", "Revoke it at once, please.")])
FLAWED = (
    b"\xef\xbb\xbf"
    + GOOD
    + b"\n"
    + ODD.replace(b'"user"', b'"human"').replace(b'"assistant"', b'"GPT"')
    + LEAK
    + builders.jsonl(ROWS[:1])
    + b'{"messages": []}\n'
    + ODD[:-20]
)
MENDED = GOOD + ODD + LEAK.replace(SECRET.encode(), b"[SECRET]") + b'{"messages": []}\n'
CHOSEN = ["bom", "blank_lines", "role_names", "mask_secrets", "exact_duplicates", "partial_line"]


@contextmanager
def opened(session: Session) -> Iterator[Session]:
    yield session
    session.flush()


def analyse(session: Session, dataset: dict[str, Any]) -> None:
    """Make and check the newest version, as the worker does."""
    analysis.analyse(
        lambda: opened(session),
        storage=get_storage(get_settings()),
        version_id=dataset["versions"][0]["id"],
        progress=lambda _, __: None,
    )


def checked(client: Client, session: Session, content: bytes = FLAWED, **fields: Any) -> str:
    name = fields.pop("filename", "boxes.jsonl")
    made = client.post(DATASETS, files={"file": (name, content)}, data=fields).json()
    analyse(session, made)
    return f"{DATASETS}/{made['id']}"


def repair(client: Client, url: str, repairs: Sequence[str], **more: Any) -> Any:
    return client.post(f"{url}/repairs", json={"repairs": list(repairs), **more})


def test_the_repairs_that_fit_are_offered_with_their_rows(client: Client, session: Session) -> None:
    url = checked(client, session)

    offered = client.get(f"{url}/repairs").json()

    rows = {item["name"]: (item["rows"], item["exact"]) for item in offered["items"]}
    assert rows == {
        "bom": (1, True),
        "blank_lines": (1, True),
        "partial_line": (1, True),
        "role_names": (2, False),
        "mask_secrets": (1, False),
        "bad_rows": (3, True),
        "exact_duplicates": (1, True),
    }
    assert all(item["title"] and item["what"] for item in offered["items"])


def test_nothing_is_offered_for_a_clean_version(client: Client, session: Session) -> None:
    url = checked(client, session, GOOD)

    assert client.get(f"{url}/repairs").json()["items"] == []
    answer = repair(client, url, list(REPAIRS))
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_repair")


def test_differences_are_shown_before_anything_is_done(client: Client, session: Session) -> None:
    url = checked(client, session)

    answer = client.post(f"{url}/repairs/preview", json={"repairs": CHOSEN, "limit": 3})

    shown = answer.json()
    assert answer.status_code == 200, answer.text
    assert (shown["version"], shown["rows"], shown["complete"], shown["note"]) == (1, 9, True, None)
    by_name = {item["name"]: item for item in shown["repairs"]}
    assert list(by_name) == [name for name in REPAIRS if name in CHOSEN]
    roles = by_name["role_names"]
    assert (roles["changed"], roles["dropped"], roles["total"]) == (1, 0, 1)
    assert roles["differences"][0]["line"] == 6
    assert '"human"' in roles["differences"][0]["before"]
    assert '"user"' in roles["differences"][0]["after"]
    assert by_name["exact_duplicates"]["differences"][0]["after"] is None
    assert by_name["mask_secrets"]["differences"][0]["after"].count("[SECRET]") == 1
    assert "⟨BOM⟩" in by_name["bom"]["differences"][0]["before"]
    assert SECRET[4:] not in answer.text
    assert len(client.get(url).json()["versions"]) == 1


def test_a_repaired_version_has_its_parent_its_recipe_and_fewer_problems(
    client: Client, session: Session
) -> None:
    url = checked(client, session)

    answer = repair(client, url, CHOSEN)

    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["version"], made["status"]) == (2, "checking")
    job = session.scalars(select(Job).order_by(Job.number.desc())).first()
    assert job is not None
    assert (job.kind, job.subject_id) == ("analyse_dataset", made["versions"][0]["id"])
    analyse(session, made)
    assert client.get(f"{url}/file?version=2").content == MENDED
    assert client.get(f"{url}/file?version=1").content == FLAWED
    before, after = (
        client.get(f"{url}/problems?version={number}").json()["by_code"] for number in (1, 2)
    )
    assert set(after) == {"empty_messages"} < set(before)
    version = session.get_one(DatasetVersion, made["versions"][0]["id"])
    assert version.parent_id == made["versions"][1]["id"]
    assert version.recipe is not None
    assert (version.recipe["parent"], version.recipe["repairs"]) == (
        1,
        sorted(CHOSEN, key=[*REPAIRS].index),
    )
    assert version.recipe["counts"]["role_names"] == {"changed": 1, "dropped": 0}
    assert version.recipe["counts"]["exact_duplicates"] == {"changed": 0, "dropped": 1}
    audit = session.scalars(select(AuditRow).where(AuditRow.action == "dataset.repair")).one()
    assert audit.detail["repairs"] == version.recipe["repairs"]


def test_the_same_repairs_again_are_refused_or_the_same_by_their_key(
    client: Client, session: Session
) -> None:
    url = checked(client, session)
    headers = {"Idempotency-Key": "k1"}
    body = {"repairs": ["bom"]}

    first = client.post(f"{url}/repairs", json=body, headers=headers)
    second = client.post(f"{url}/repairs", json=body, headers=headers)

    assert (first.status_code, second.status_code, second.json()["version"]) == (201, 201, 2)
    again = repair(client, url, ["bom"], version=1)
    assert (again.status_code, again.json()["code"]) == (409, "already_repaired")


def test_a_version_is_repaired_once_it_is_checked(client: Client, session: Session) -> None:
    made = client.post(DATASETS, files={"file": ("boxes.jsonl", FLAWED)}).json()
    url = f"{DATASETS}/{made['id']}"

    assert repair(client, url, ["bom"]).json()["code"] == "dataset_not_checked"
    assert client.get(f"{url}/repairs").json()["code"] == "dataset_not_checked"


@pytest.mark.parametrize("repairs", [[], ["nonsense"], ["bom", "../x"]])
def test_what_is_no_repair_is_named(client: Client, session: Session, repairs: list[str]) -> None:
    url = checked(client, session)

    for path in ("repairs", "repairs/preview"):
        answer = client.post(f"{url}/{path}", json={"repairs": repairs})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "repairs"


def test_only_the_owner_or_an_admin_repairs(
    client: Client, member_client: Client, viewer_client: Client, session: Session
) -> None:
    url = checked(client, session)

    assert repair(member_client, url, ["bom"]).status_code == 403
    assert repair(viewer_client, url, ["bom"]).status_code == 403
    assert viewer_client.get(f"{url}/repairs").status_code == 200
    own = checked(member_client, session)
    assert repair(client, own, ["bom"]).status_code == 201


def test_a_making_that_was_killed_starts_again_and_is_done_once(
    client: Client, session: Session
) -> None:
    url = checked(client, session)
    made = repair(client, url, CHOSEN).json()
    version = session.get_one(DatasetVersion, made["versions"][0]["id"])
    storage = get_storage(get_settings())
    with storage.open(f"{version.storage_key}-unmade", "wb") as half:
        half.write(b"half of a ro")

    def make() -> None:
        making.make(
            lambda: opened(session),
            storage=storage,
            version_id=version.id,
            progress=lambda _, __: None,
        )

    make()
    first = (version.sha256, version.bytes)
    # Killed between the move and the commit: the content is there, its hash is not yet.
    version.sha256 = f"making:{version.id}"
    session.flush()
    make()
    make()

    assert (version.sha256, version.bytes) == first
    assert version.bytes == len(MENDED)
    assert not storage.exists(f"{version.storage_key}-unmade")
    assert client.get(f"{url}/file").content == MENDED


def test_what_another_version_is_already_is_not_kept_twice(
    client: Client, session: Session
) -> None:
    url = checked(client, session, GOOD + b"\n")
    client.post(
        DATASETS, files={"file": ("b.jsonl", GOOD)}, data={"dataset": url.rsplit("/", 1)[1]}
    )
    made = repair(client, url, ["blank_lines"], version=1).json()

    with pytest.raises(Conflict, match="what version 2 is already"):
        analyse(session, made)


def test_repairs_that_leave_no_row_are_refused_by_the_job(client: Client, session: Session) -> None:
    url = checked(client, session, b"[1]\n{}\n")
    made = repair(client, url, ["bad_rows"]).json()

    with pytest.raises(Conflict, match="leave no row"):
        analyse(session, made)
    assert client.get(f"{url}/file").json()["code"] == "dataset_not_made"
    version = session.get_one(DatasetVersion, made["versions"][0]["id"])
    assert not get_storage(get_settings()).exists(f"{version.storage_key}-unmade")


def test_a_large_version_shows_what_lies_behind_what_was_looked_at(
    client: Client, session: Session
) -> None:
    url = checked(client, session, GOOD * 200 + FLAWED[3:])
    version = session.scalars(select(DatasetVersion)).one()

    found = previewing.preview(
        session,
        get_storage(get_settings()),
        version,
        names=["role_names", "mask_secrets", "exact_duplicates", "key_names"],
        limit=2,
        budget=1000,
    )

    by_name = {outcome.repair.name: outcome for outcome in found.outcomes}
    assert not found.is_complete
    assert by_name["role_names"].total is None
    assert [shown.line for shown in by_name["role_names"].differences] == [806]
    assert [shown.line for shown in by_name["mask_secrets"].differences] == [807]
    assert by_name["exact_duplicates"].total == 801
    assert by_name["key_names"].total == 0
    assert client.get(f"{url}/repairs").json()["items"]


def test_rows_of_another_container_are_written_as_json_lines(
    client: Client, session: Session
) -> None:
    rows = [*ROWS, ROWS[0]]
    url = checked(client, session, json.dumps(rows).encode(), filename="boxes.json")

    shown = client.post(f"{url}/repairs/preview", json={"repairs": ["exact_duplicates"]}).json()
    made = repair(client, url, ["exact_duplicates"]).json()
    analyse(session, made)

    assert "JSON Lines" in shown["note"]
    assert made["versions"][0]["filename"] == "boxes.jsonl"
    content = client.get(f"{url}/file").content
    assert [json.loads(line) for line in content.splitlines()] == ROWS
