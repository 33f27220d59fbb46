"""Splits, overlap, repeats and differences over HTTP: no leak, true counts, both rows shown."""

import hashlib
import random
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
from app.datasets.alike.similarity import RowSource, TurnsOf, find, read_groups
from app.datasets.models import DatasetSplit, DatasetVersion
from app.datasets.table import TableReader
from app.kit.storage import get_storage
from app.runs import service as runs
from app.runs.models import Run
from app.settings import get_settings
from tests.fixtures import builders
from tests.fixtures.client import Client

DATASETS = "/api/v1/datasets"
WORDS = [f"word{number}" for number in range(300)]


def text(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def row(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {**builders.conversation(question, answer), **more}


def made(session: Session, rows: list[Any], **columns: Any) -> DatasetVersion:
    """A checked version of these rows, with bands and groups."""
    version = builders.create_dataset_version(session, content=builders.jsonl(rows), **columns)
    compare(version)
    return version


def compare(version: DatasetVersion) -> None:
    storage = get_storage(get_settings())
    with (
        storage.open(version.rows_key) as rows,
        storage.open(version.table_key) as table,
        storage.open(version.bands_key, "wb") as bands,
        storage.open(version.groups_key, "wb") as groups,
    ):

        def read(offset: int, size: int) -> bytes:
            rows.seek(offset)
            return rows.read(size)

        source = RowSource(read, TurnsOf("messages"))
        list(find(source, TableReader(table), bands=bands, groups=groups))


def another(session: Session, of: DatasetVersion, rows: list[Any]) -> DatasetVersion:
    """A second version of the same dataset."""
    version = made(session, rows)
    version.dataset_id, version.number = of.dataset_id, 2
    session.flush()
    return version


def url(version: DatasetVersion, what: str) -> str:
    return f"{DATASETS}/{version.dataset_id}/{what}"


def sides(split: dict[str, Any], session: Session) -> list[int]:
    stored = session.get_one(DatasetSplit, split["id"])
    with get_storage(get_settings()).open(stored.key) as source:
        data = source.read()
    assert hashlib.sha256(data).hexdigest() == split["sha256"]
    return list(data)


def groups(version: DatasetVersion) -> list[int]:
    with get_storage(get_settings()).open(version.groups_key) as source:
        return read_groups(source).tolist()


NEAR = text(1) + " more"
MIXED = [
    row("First?", text(0), topic="a", part="train"),
    row("Second?", text(1), topic="b", part="train"),
    row("Second?", text(1), topic="b", part="train"),
    row("Second?", NEAR, topic="c", part="Test"),
    *[row(f"{text(n, 8)}?", text(n), topic="abc"[n % 3], part="train") for n in range(10, 26)],
]
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


def test_overlap_shows_both_rows_and_counts_every_row_once(
    client: Client, session: Session
) -> None:
    version = made(session, MIXED)
    other = made(session, [row("First?", text(0), topic="a", part="train"), row("Second?", NEAR)])

    first = client.get(
        url(version, "overlap"), params={"with": other.dataset_id, "limit": 2}
    ).json()
    rest = client.get(
        url(version, "overlap"), params={"with": other.dataset_id, "cursor": first["next"]}
    ).json()

    assert {name: first[name] for name in ("exact", "near", "rows", "of", "complete")} == {
        "exact": 1,
        "near": 3,
        "rows": 4,
        "of": len(MIXED),
        "complete": True,
    }
    items = first["items"] + rest["items"]
    assert [(item["line"], item["with_line"], item["kind"]) for item in items] == [
        (1, 1, "exact"),
        (2, 2, "near"),
        (3, 2, "near"),
        (4, 2, "near"),
    ]
    assert items[1]["row"] == MIXED[1]
    assert items[1]["with_row"] == row("Second?", NEAR)
    assert 0.85 <= items[1]["similarity"] < 1
    assert rest["next"] is None


def test_overlap_with_itself_is_refused_and_what_is_not_compared_is_said(
    client: Client, session: Session
) -> None:
    version = made(session, MIXED)
    new = builders.create_dataset_version(session, content=builders.jsonl(MIXED[:1]))

    itself = client.get(url(version, "overlap"), params={"with": version.dataset_id})
    half = client.get(url(version, "overlap"), params={"with": new.dataset_id}).json()

    assert (itself.status_code, itself.json()["errors"][0]["field"]) == (422, "with")
    assert (half["exact"], half["complete"]) == (1, False)


def test_repeats_list_copies_and_near_copies_with_their_group(
    client: Client, session: Session
) -> None:
    answer = client.get(url(made(session, MIXED), "repeats")).json()

    assert (answer["rows"], answer["groups"], answer["complete"]) == (2, 1, True)
    shown = [
        (item["line"], item["with_line"], item["kind"], item["group_rows"])
        for item in answer["items"]
    ]
    assert shown == [(3, 2, "exact", 3), (4, 2, "near", 3)]
    assert answer["items"][0]["row"] == answer["items"][0]["with_row"] == MIXED[1]


def test_a_difference_shows_rows_as_they_were_and_are(client: Client, session: Session) -> None:
    version = made(session, MIXED)
    changed = row("Second?", "Quite another answer.")
    another(session, version, [*MIXED[:3], changed, *MIXED[5:], row("New?", text(500))])

    found = client.get(url(version, "difference"), params={"from": 1, "to": 2}).json()
    only = client.get(
        url(version, "difference"), params={"from": 1, "to": 2, "kind": "added"}
    ).json()

    counts = {name: found[name] for name in ("added", "removed", "changed", "same")}
    assert counts == {"added": 1, "removed": 1, "changed": 1, "same": len(MIXED) - 2}
    assert [item["kind"] for item in found["items"]] == ["changed", "removed", "added"]
    first = found["items"][0]
    assert (first["from_line"], first["line"]) == (4, 4)
    assert (first["from_row"], first["row"]) == (MIXED[3], changed)
    assert [item["row"]["messages"][0]["content"] for item in only["items"]] == ["New?"]
    assert only["items"][0]["from_row"] is None


def test_a_difference_of_broken_rows_compares_their_bytes(client: Client, session: Session) -> None:
    good = builders.jsonl(MIXED[:2])
    version = builders.create_dataset_version(session, content=good + b"{broken\n")
    other = builders.create_dataset_version(session, content=good + b"{broken\n{worse\n")
    other.dataset_id, other.number = version.dataset_id, 2
    session.flush()

    found = client.get(url(version, "difference"), params={"from": 1, "to": 2}).json()

    assert (found["same"], found["added"]) == (3, 1)
    assert found["items"][0]["row"] == "{worse"


def test_what_is_still_checked_is_not_compared(client: Client, session: Session) -> None:
    version = builders.create_dataset_version(session, status="checking")

    for what in ("repeats", "overlap?with=" + version.dataset_id, "difference?from=1&to=1"):
        answer = client.get(url(version, what))
        assert (answer.status_code, answer.json()["code"]) == (409, "dataset_not_checked")


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
