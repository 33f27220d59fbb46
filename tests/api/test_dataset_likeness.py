"""Overlap, repeats and differences over HTTP: true counts, both rows shown."""

from sqlalchemy.orm import Session

from tests.api.likeness import MIXED, NEAR, another, made, row, text, url
from tests.fixtures import builders
from tests.fixtures.client import Client


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
