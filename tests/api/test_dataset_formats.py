"""What a user says of a dataset's rows: remembered, checked again, never under a run's feet."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.models import AuditRow
from app.auth.roles import Role
from app.datasets.models import DatasetVersion, ProblemRow
from app.jobs.models import Job
from tests.api.test_datasets import DATASETS, analysed, upload
from tests.fixtures import builders
from tests.fixtures.client import Client

ROWS = [{"question": f"What is in box {n}?", "answer": f"It holds {n} lamps."} for n in range(3)]
CONTENT = builders.jsonl(ROWS)
SAID = {"format": "prompt_completion", "mapping": {"prompt": "question", "completion": "answer"}}


@pytest.fixture
def dataset(member_client: Client, session: Session) -> dict[str, Any]:
    """Return a checked dataset whose columns have names of their own."""
    made = upload(member_client, CONTENT, name="boxes").json()
    analysed(session, made)
    return member_client.get(f"{DATASETS}/{made['id']}").json()


def say(client: Client, dataset: dict[str, Any], body: dict[str, Any]) -> Any:
    return client.post(f"{DATASETS}/{dataset['id']}/mapping", json=body)


def version_of(session: Session, dataset: dict[str, Any]) -> DatasetVersion:
    session.expire_all()
    return session.get_one(DatasetVersion, dataset["versions"][0]["id"])


def test_columns_are_mapped_and_the_version_is_checked_again(
    member_client: Client, session: Session, dataset: dict[str, Any]
) -> None:
    assert (dataset["status"], dataset["format"]) == ("invalid", "messages")

    answer = say(member_client, dataset, SAID)

    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "checking"
    version = version_of(session, dataset)
    assert (version.declared_format, version.mapping) == (SAID["format"], SAID["mapping"])
    assert (version.errors, version.by_code, version.statistics) == (None, None, None)
    assert session.scalars(select(ProblemRow)).all() == []
    assert len(session.scalars(select(Job).where(Job.subject_id == version.id)).all()) == 2
    audit = session.scalars(select(AuditRow).where(AuditRow.action == "dataset.describe")).one()
    assert audit.detail["mapping"] == SAID["mapping"]

    analysed(session, dataset)
    shown = member_client.get(f"{DATASETS}/{dataset['id']}").json()
    assert (shown["status"], shown["format"], shown["examples"]) == (
        "ready",
        "prompt_completion",
        3,
    )


def test_the_next_version_inherits_what_was_said_unless_its_upload_says_more(
    member_client: Client, session: Session, dataset: dict[str, Any]
) -> None:
    say(member_client, dataset, SAID)

    more = builders.jsonl([*ROWS, {"question": "What is in box 9?", "answer": "Nothing at all."}])
    second = upload(member_client, more, dataset=dataset["id"]).json()
    third = upload(member_client, more + b"\n", dataset=dataset["id"], format="alpaca").json()

    assert second["versions"][0]["mapping"] == SAID["mapping"]
    assert second["versions"][0]["declared_format"] == "prompt_completion"
    assert third["versions"][0]["declared_format"] == "alpaca"
    assert third["versions"][0]["mapping"] is None


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (
            {"format": "alpaca", "mapping": {"output": "reply", "prompt": "question"}},
            ["mapping.output", "mapping.prompt"],
        ),
        ({"format": "csv"}, ["format"]),
        ({"mapping": {"prompt": "question"}}, ["format"]),
        ({"format": "alpaca", "columns": {}}, ["columns"]),
    ],
)
def test_what_there_is_not_is_named(
    member_client: Client, dataset: dict[str, Any], body: dict[str, Any], fields: list[str]
) -> None:
    answer = say(member_client, dataset, body)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == fields


def test_the_file_s_columns_are_listed_where_one_is_not_among_them(
    member_client: Client, dataset: dict[str, Any]
) -> None:
    body = {"format": "alpaca", "mapping": {"output": "reply"}}

    (error,) = say(member_client, dataset, body).json()["errors"]

    assert error["message"] == 'the file has no column "reply"; it has question, answer'


def test_a_version_that_a_run_uses_stays_and_the_run_is_named(
    member_client: Client, session: Session, dataset: dict[str, Any]
) -> None:
    builders.create_run(session, version=version_of(session, dataset), name="boxes-1")

    answer = say(member_client, dataset, SAID)

    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_in_use")
    assert "boxes-1" in answer.json()["detail"]
    assert version_of(session, dataset).mapping is None


def test_a_version_in_its_check_is_left_alone(member_client: Client) -> None:
    made = upload(member_client, CONTENT, name="boxes").json()

    answer = say(member_client, made, SAID)

    assert (answer.status_code, answer.json()["code"]) == (409, "dataset_not_checked")


def test_only_the_owner_or_an_admin_may_say_it(
    client: Client, viewer_client: Client, session: Session, dataset: dict[str, Any]
) -> None:
    stranger = builders.create_user(session, role=Role.MEMBER)
    theirs = builders.create_dataset_version(session, owner=stranger)

    assert say(client, {"id": theirs.dataset_id}, {"format": "messages"}).status_code == 200
    assert say(viewer_client, dataset, SAID).status_code == 403
    assert say(client, {"id": "ds_none"}, SAID).status_code == 404


def test_a_format_alone_is_said_and_taken_back(
    member_client: Client, session: Session, dataset: dict[str, Any]
) -> None:
    say(member_client, dataset, {"format": "preference"})
    analysed(session, dataset)

    answer = say(member_client, dataset, {"version": 1})

    assert answer.status_code == 200
    assert version_of(session, dataset).declared_format is None


@pytest.mark.parametrize(
    "name", ["messages", "sharegpt", "alpaca", "prompt_completion", "preference"]
)
def test_an_upload_may_say_its_format(member_client: Client, name: str) -> None:
    made = upload(member_client, CONTENT, name="boxes", format=name).json()

    assert made["versions"][0]["declared_format"] == name
