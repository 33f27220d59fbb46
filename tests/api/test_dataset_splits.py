"""Splits over HTTP: nothing leaks from one side to the other, and what they rest on stays."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.models import AuditRow
from app.datasets import splits
from app.datasets.alike.similarity import read_groups
from app.datasets.models import DatasetSplit, DatasetVersion
from app.kit.storage import get_storage
from app.runs import service as runs
from app.runs.models import Run
from app.settings import get_settings
from tests.api.likeness import DATASETS, MIXED, NEAR, made, row, text, url
from tests.fixtures import builders
from tests.fixtures.client import Client


def sides(split: dict[str, Any], session: Session) -> list[int]:
    stored = session.get_one(DatasetSplit, split["id"])
    with get_storage(get_settings()).open(stored.key) as source:
        data = source.read()
    assert hashlib.sha256(data).hexdigest() == split["sha256"]
    return list(data)


def groups(version: DatasetVersion) -> list[int]:
    with get_storage(get_settings()).open(version.groups_key) as source:
        return read_groups(source).tolist()


WISHES: list[dict[str, Any]] = [
    {"method": "random", "fraction": 0.25, "seed": 7},
    {"method": "group", "column": "topic", "fraction": 0.3},
    {"method": "stratified", "column": "topic", "fraction": 0.2},
    {"method": "column", "column": "part"},
]


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: wish["method"])
def test_copies_and_near_copies_stay_on_one_side_whatever_the_method(
    client: Client, session: Session, wish: dict[str, Any]
) -> None:
    version = made(session, MIXED)

    answer = client.post(url(version, "splits"), json=wish)

    assert answer.status_code == 201, answer.text
    split = answer.json()
    held = sides(split, session)
    assert split["result"]["trained"] == held.count(0) > 0
    assert split["result"]["held_out"] == held.count(1) > 0
    assert held[1] == held[2] == held[3]
    assert split["result"]["near_copies_known"] is True


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    topics=st.lists(st.integers(0, 4), min_size=4, max_size=12),
    copies=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    wish=st.sampled_from(WISHES[:3]),
    seed=st.integers(0, 10**6),
)
def test_no_group_is_on_both_sides(
    client: Client,
    session: Session,
    *,
    topics: list[int],
    copies: list[int],
    wish: dict[str, Any],
    seed: int,
) -> None:
    said = [text(number) for number in copies]
    rows = [row("Why?", said[at], topic=topic) for at, topic in enumerate(topics)]
    rows += [row("Lonely?", text(77), topic=8), row("Lonelier?", text(78), topic=9)]
    version = made(session, rows)

    split = client.post(url(version, "splits"), json={**wish, "seed": seed}).json()

    held = np.array(sides(split, session))
    parted = [np.array(groups(version))]
    if wish["method"] == "group":
        parted.append(np.array([*topics, 8, 9]))
    for units in parted:
        assert not set(units[held == 1].tolist()) & set(units[held == 0].tolist())
    assert split["result"]["trained"] + split["result"]["held_out"] == len(rows)


def test_moved_rows_are_counted(client: Client, session: Session) -> None:
    version = made(session, MIXED)
    wish = {"method": "column", "column": "part"}

    together = client.post(url(version, "splits"), json=wish).json()
    apart = client.post(url(version, "splits"), json={**wish, "keep_copies_together": False}).json()

    assert (together["result"]["held_out"], together["result"]["moved"]) == (3, 2)
    assert (apart["result"]["held_out"], apart["result"]["moved"]) == (1, 0)
    assert together["result"]["values"] == [
        {"value": "train", "trained": 17, "held_out": 2},
        {"value": "Test", "trained": 0, "held_out": 1},
    ]


def test_a_large_version_is_parted_by_a_job_and_no_run_can_name_the_split_before(
    client: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = made(session, MIXED)
    monkeypatch.setattr(splits, "LARGE_ROWS", len(MIXED))

    first = client.post(url(version, "splits"), json=WISHES[0])
    again = client.post(url(version, "splits"), json=WISHES[0])

    assert (first.status_code, again.status_code) == (202, 202)
    split = first.json()
    assert again.json() == split
    assert (split["status"], split["sha256"], split["result"]) == ("making", None, {})
    assert client.get(url(version, "splits")).json()["items"] == [split]
    refused = launched(client, session, version, split["id"])
    assert "has no such split" in refused.json()["errors"][0]["message"]


def test_a_split_whose_job_was_cancelled_is_asked_for_again(
    client: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = made(session, MIXED)
    monkeypatch.setattr(splits, "LARGE_ROWS", len(MIXED))
    split = client.post(url(version, "splits"), json=WISHES[0]).json()
    (job,) = splits.jobs_of(session, session.scalars(select(DatasetSplit))).values()
    assert client.post(f"/api/v1/jobs/{job.id}/stop", json={"mode": "cancel"}).status_code == 202

    (stopped,) = client.get(url(version, "splits")).json()["items"]
    again = client.post(url(version, "splits"), json=WISHES[0]).json()

    assert (stopped["status"], again["status"]) == ("failed", "making")
    assert "Ask for it again" in stopped["failure"]
    assert again["id"] == split["id"]


def test_the_same_wish_is_the_same_split_and_equal_content_parts_equally(
    client: Client, session: Session
) -> None:
    one, other = made(session, MIXED), made(session, MIXED)
    wish = WISHES[0]

    first = client.post(url(one, "splits"), json=wish).json()
    again = client.post(url(one, "splits"), json=wish).json()
    elsewhere = client.post(url(other, "splits"), json=wish).json()

    assert again == first
    assert elsewhere["sha256"] == first["sha256"]
    assert client.get(url(one, "splits")).json() == {"items": [first]}
    audit = session.scalars(select(AuditRow).where(AuditRow.action == "dataset.split")).all()
    assert len(audit) == 2


def test_rows_that_are_in_the_held_out_file_are_not_trained(
    client: Client, session: Session
) -> None:
    version = made(session, MIXED)
    measure = made(session, [row("Second?", NEAR), row("New?", text(99))], name="measure")

    split = client.post(
        url(version, "splits"), json={"method": "file", "file": {"id": measure.dataset_id}}
    ).json()

    assert [at for at, side in enumerate(sides(split, session)) if side] == [1, 2, 3]
    assert split["parameters"]["file"] == {"id": measure.dataset_id, "version": 1}
    assert split["result"] | {"of_file": 2, "exact": 0, "complete": True} == split["result"]


@pytest.mark.parametrize(
    ("wish", "field", "says"),
    [
        ({"method": "group", "column": "nope"}, "column", "there are: messages, topic, part"),
        ({"method": "column", "column": "part", "held_out": ["x"]}, "held_out", "train, Test"),
        ({"method": "column", "column": "topic", "held_out": ["a", "b", "c"]}, "method", "left"),
        ({"method": "file", "file": {"id": "ds_none"}}, "file", "no such dataset"),
        ({"method": "random", "fraction": 1}, "fraction", "less than"),
        ({"method": "sorted"}, "", "method"),
    ],
)
def test_a_wish_that_cannot_be_met_says_why(
    client: Client, session: Session, *, wish: dict[str, Any], field: str, says: str
) -> None:
    version = made(session, MIXED)

    answer = client.post(url(version, "splits"), json=wish)

    assert answer.status_code == 422, answer.text
    assert says in answer.text
    assert field in answer.json()["errors"][0]["field"]


def test_a_dataset_that_a_split_measures_with_stays_until_the_split_is_gone(
    client: Client, session: Session
) -> None:
    version, measure = made(session, MIXED), made(session, MIXED[:2])
    wish = {"method": "file", "file": {"id": measure.dataset_id}}
    split = client.post(url(version, "splits"), json=wish).json()
    address = f"{DATASETS}/{measure.dataset_id}"
    name = client.get(f"{DATASETS}/{version.dataset_id}").json()["name"]

    refused = client.delete(address)

    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    assert f"A split of {name} v1 ({version.dataset_id})" in refused.json()["detail"]
    assert client.get(address).status_code == 200
    assert client.delete(url(version, f"splits/{split['id']}")).status_code == 204
    assert client.delete(address).status_code == 204


def test_a_deleted_dataset_no_longer_holds_what_its_splits_measured_with(
    client: Client, session: Session
) -> None:
    version, measure = made(session, MIXED), made(session, MIXED[:2])
    client.post(url(version, "splits"), json={"method": "file", "file": {"id": measure.dataset_id}})

    assert client.delete(f"{DATASETS}/{version.dataset_id}").status_code == 204
    assert client.delete(f"{DATASETS}/{measure.dataset_id}").status_code == 204


def test_a_version_cannot_be_its_own_held_out_file(client: Client, session: Session) -> None:
    version = made(session, MIXED)
    wish = {"method": "file", "file": {"id": version.dataset_id, "version": 1}}

    assert "its own" in client.post(url(version, "splits"), json=wish).json()["detail"]


def test_rows_with_errors_are_on_no_side(client: Client, session: Session) -> None:
    version = made(session, [*MIXED, {"messages": []}], status="invalid", bad_rows=1)

    result = client.post(url(version, "splits"), json=WISHES[0]).json()["result"]

    assert result["left_out"] == 1
    assert result["trained"] + result["held_out"] == len(MIXED)


def test_a_split_is_deleted_by_who_made_it_unless_a_run_rests_on_it(
    client: Client, member_client: Client, session: Session
) -> None:
    version = made(session, MIXED)
    used, unused = (
        client.post(url(version, "splits"), json={**WISHES[0], "seed": seed}).json()
        for seed in (1, 2)
    )
    builders.create_run(
        session, version=version, name="tone", config={"data": {"split": used["id"]}}
    )

    assert member_client.delete(url(version, f"splits/{unused['id']}")).status_code == 403
    assert client.delete(url(version, f"splits/{unused['id']}")).status_code == 204
    assert client.delete(url(version, f"splits/{unused['id']}")).status_code == 404
    refused = client.delete(url(version, f"splits/{used['id']}"))
    assert (refused.status_code, refused.json()["code"]) == (409, "split_in_use")
    assert "tone" in refused.json()["detail"]


def launched(client: Client, session: Session, version: DatasetVersion, split: str) -> Any:
    model = builders.create_base_model(session)
    chosen = {"id": version.dataset_id, "version": version.number}
    wish = {"dataset": chosen, "base_model": model.id, "config": {"data": {"split": split}}}
    return client.post("/api/v1/runs", json=wish)


def test_a_run_names_a_split_of_its_version_and_its_trainer_gets_the_sides(
    client: Client, session: Session
) -> None:
    version = made(session, MIXED)
    measure = made(session, [row("Second?", NEAR), row("New?", text(99))], name="measure")
    wish = {"method": "file", "file": {"id": measure.dataset_id}}
    split = client.post(url(version, "splits"), json=wish).json()

    answer = launched(client, session, version, split["id"])

    assert answer.status_code == 201, answer.text
    spec = answer.json()["spec"]
    assert spec["config"]["data"]["split"] == split["id"]
    assert spec["config"]["data"]["validation_fraction"] == round(2 / 19, 3)
    run = session.get_one(Run, answer.json()["id"])
    job = runs.trainer_job(session, get_settings(), job_id=run.job_id, device="cpu")
    assert Path(job.split_file or "").read_bytes() == bytes(sides(split, session))
    assert Path(job.groups_file or "").stat().st_size == 8 * len(MIXED)
    assert job.measured is not None
    assert Path(job.measured.dataset_file).read_bytes().count(b"\n") == 2


def test_a_split_of_another_version_is_refused(client: Client, session: Session) -> None:
    version, other = made(session, MIXED), made(session, MIXED)
    split = client.post(url(other, "splits"), json=WISHES[0]).json()

    answer = launched(client, session, version, split["id"])

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "config.data.split"
    assert "has no such split" in error["message"]
