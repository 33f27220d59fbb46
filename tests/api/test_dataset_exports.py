"""Versions leave as messages, with a card, and with what LlamaFactory reads."""

import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from sqlalchemy.orm import Session

from app.datasets.models import DatasetVersion
from tests.fixtures import builders
from tests.fixtures.client import Client
from tests.fixtures.datasets import add_version, checked_version

CALL = {"type": "function", "function": {"name": "weigh", "arguments": {"box": 7}}}
WITH_TOOLS = {
    "messages": [
        {"role": "user", "content": "How heavy is box 7?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "12 kg", "tool_call_id": "1"},
        {"role": "assistant", "content": "Box 7 weighs 12 kg.", "weight": 1},
    ],
    "tools": [{"type": "function", "function": {"name": "weigh", "parameters": {}}}],
}
ROWS = [builders.conversation(f"Box {n}?", f"Box {n} holds {n} lamps.") for n in range(40)]
ALPACA = [
    {"instruction": "Add.", "input": f"{n} and 1", "output": f"It is {n + 1}."} for n in range(3)
]


def export(client: Client, version: DatasetVersion, form: str, **query: Any) -> Any:
    parameters = {"format": form, "version": version.number, **query}
    return client.get(f"/api/v1/datasets/{version.dataset_id}/export", params=parameters)


def lines(answer: Any) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_good_rows_leave_as_messages_whatever_their_format(
    client: Client, session: Session
) -> None:
    content = builders.jsonl([*ALPACA, {"instruction": "Only this."}])
    version = checked_version(session, content, name="sums & more")

    answer = export(client, version, "messages")

    assert answer.headers["content-disposition"].endswith("''sums-more-v1.jsonl")
    assert lines(answer)[0] == builders.conversation("Add.\n0 and 1", "It is 1.")
    assert len(lines(answer)) == 3


def test_calls_and_tools_survive_both_forms(client: Client, session: Session) -> None:
    version = checked_version(session, builders.jsonl([WITH_TOOLS, *ROWS]))
    messages = lines(export(client, version, "messages"))

    table = pq.read_table(io.BytesIO(export(client, version, "parquet").content))
    again = add_version(session, version, export(client, version, "parquet").content)

    assert messages == [WITH_TOOLS, *ROWS]
    assert table.num_rows == 41
    assert json.loads(table["messages"][0][1]["tool_calls"].as_py()) == [CALL]
    assert (again.status, again.container, again.examples) == ("ready", "parquet", 41)
    assert lines(export(client, again, "messages"))[1:] == ROWS
    assert lines(export(client, again, "messages"))[0]["messages"][1]["tool_calls"] == [CALL]


def test_an_exported_file_is_taken_again_without_a_problem(
    client: Client, session: Session
) -> None:
    version = checked_version(session, builders.jsonl(ROWS))

    again = add_version(session, version, export(client, version, "messages").content + b"\n")

    assert (again.status, again.errors, again.examples) == ("ready", 0, 40)


def test_a_split_leaves_by_its_sides(client: Client, session: Session) -> None:
    version = checked_version(session, builders.jsonl(ROWS))
    wish = {"method": "random", "fraction": 0.2, "seed": 3}
    url = f"/api/v1/datasets/{version.dataset_id}/splits"
    split = client.post(url, json=wish).json()

    trained = lines(export(client, version, "messages", split=split["id"]))
    held_out = lines(export(client, version, "messages", split=split["id"], side="held_out"))

    assert len(held_out) == split["result"]["held_out"] > 0
    assert sorted(map(str, trained + held_out)) == sorted(map(str, ROWS))
    assert not [row for row in trained if row in held_out]
    name = export(client, version, "parquet", split=split["id"], side="held_out")
    assert name.headers["content-disposition"].endswith("-v1-held_out.parquet")


def test_a_split_of_nothing_or_a_side_of_none_is_refused(client: Client, session: Session) -> None:
    version = checked_version(session, builders.jsonl(ROWS))

    for query in ({"split": "spl_none"}, {"side": "trained"}):
        answer = export(client, version, "messages", **query)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["split"]
    assert export(client, version, "pickle").status_code == 422


def test_preference_rows_have_no_form_as_messages(client: Client, session: Session) -> None:
    pairs = [{"prompt": f"Box {n}?", "chosen": "Full of lamps.", "rejected": "No."} for n in "abc"]
    version = checked_version(session, builders.jsonl(pairs))

    assert export(client, version, "messages").json()["code"] == "not_a_conversation"
    (entry,) = export(client, version, "llamafactory").json().values()
    assert (entry["ranking"], entry["formatting"]) == (True, "alpaca")
    assert entry["columns"] == {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}


def test_nothing_leaves_before_the_check(client: Client, session: Session) -> None:
    version = builders.create_dataset_version(session, status="checking")

    for form in ("messages", "parquet", "card", "llamafactory"):
        assert export(client, version, form).json()["code"] == "dataset_not_checked"


def test_the_card_tells_rows_hashes_problems_splits_and_recipe(
    client: Client, session: Session
) -> None:
    first = checked_version(session, builders.jsonl([*ROWS, ROWS[0]]), name="boxes | <b>*1*</b>")
    version = add_version(session, first, builders.jsonl([*ROWS, {"messages": []}]))
    version.parent_id, version.recipe = first.id, {"repairs": ["exact_duplicates"], "parent": 1}
    session.flush()
    wish = {"method": "random", "fraction": 0.2, "seed": 3}
    split = client.post(f"/api/v1/datasets/{version.dataset_id}/splits", json=wish).json()

    text = export(client, version, "card").text

    head = yaml.safe_load(text.split("---")[1])
    assert head["pretty_name"] == "boxes | <b>*1*</b>"
    assert head["size_categories"] == ["n<1K"]
    assert "# boxes \\| \\<b\\>\\*1\\*\\</b\\>, version 2" in text
    assert "| rows | 40 without errors, 1 with errors |" in text
    for told in (version.sha256, first.sha256, "`empty_messages`", split["id"], split["sha256"]):
        assert told in text
    assert "- exact\\_duplicates" in text
    assert "license" not in head


def test_llamafactory_is_told_how_messages_are_laid_out(client: Client, session: Session) -> None:
    version = checked_version(session, builders.jsonl(ROWS), name="my boxes")

    answer = export(client, version, "llamafactory")

    assert answer.headers["content-disposition"].endswith("''dataset_info.json")
    assert answer.json() == {
        "my-boxes": {
            "file_name": "tickets.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "observation_tag": "tool",
                "system_tag": "system",
            },
        }
    }


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (ALPACA, {"prompt": "instruction", "query": "input", "response": "output"}),
        (
            [{"prompt": f"Box {n}?", "completion": "Full of lamps."} for n in "abc"],
            {"prompt": "prompt", "response": "completion"},
        ),
        (
            [{"prompt": f"Box {n}?", "completion": "Lamps, lamps.", "label": True} for n in "abc"],
            {"prompt": "prompt", "response": "completion", "kto_tag": "label"},
        ),
    ],
)
def test_llamafactory_is_told_the_columns(
    client: Client, session: Session, rows: list[Any], columns: dict[str, str]
) -> None:
    version = checked_version(session, builders.jsonl(rows))

    (entry,) = export(client, version, "llamafactory").json().values()

    assert (entry["formatting"], entry["columns"]) == ("alpaca", columns)
    assert entry["file_name"] == "tickets.jsonl"


def test_llamafactory_is_told_who_speaks_in_sharegpt(client: Client, session: Session) -> None:
    rows = [
        {
            "system": "Be brief.",
            "conversations": [
                {"from": "user", "value": f"Box {n}?"},
                {"from": "gpt", "value": "Full of lamps."},
            ],
        }
        for n in "abc"
    ]
    version = checked_version(session, builders.jsonl(rows))

    (entry,) = export(client, version, "llamafactory").json().values()

    assert entry["columns"] == {"messages": "conversations", "system": "system"}
    assert (entry["tags"]["user_tag"], entry["tags"]["assistant_tag"]) == ("user", "gpt")
    assert (entry["tags"]["role_tag"], entry["tags"]["content_tag"]) == ("from", "value")


def test_what_llamafactory_cannot_read_is_described_as_the_export(
    client: Client, session: Session
) -> None:
    mixed = [
        {
            "conversations": [
                {"from": name, "value": "Box?"},
                {"from": "gpt", "value": "Lamps, lamps."},
            ]
        }
        for name in ("human", "user", "human")
    ]
    table = b"prompt,completion\nBox?,Full of lamps.\nBox 2?,Empty by now.\n"

    for content in (builders.jsonl(mixed), builders.jsonl([WITH_TOOLS]), table):
        version = checked_version(session, content, name="boxes")
        (entry,) = export(client, version, "llamafactory").json().values()
        assert entry["file_name"] == "boxes-v1.jsonl"
        assert entry["columns"]["messages"] == "messages"


def test_pairs_of_turns_have_no_layout_there(client: Client, session: Session) -> None:
    answer = [{"role": "assistant", "content": "Full of lamps."}]
    pair = {"prompt": [{"role": "user", "content": "Box?"}], "chosen": answer}
    row = {**pair, "rejected": [{"role": "assistant", "content": "No."}]}
    version = checked_version(session, builders.jsonl([row]))

    assert export(client, version, "llamafactory").json()["code"] == "no_such_layout"


def test_a_large_version_leaves_in_pieces(client: Client, session: Session) -> None:
    rows = [builders.conversation(f"Box {n}?", "Full of lamps. " * 40) for n in range(2500)]
    version = checked_version(session, builders.jsonl(rows))

    assert lines(export(client, version, "messages")) == rows
    table = pq.read_table(io.BytesIO(export(client, version, "parquet").content))
    assert [turns[0]["content"] for turns in table["messages"].to_pylist()] == [
        row["messages"][0]["content"] for row in rows
    ]


def test_anybody_signed_in_may_take_an_export(viewer_client: Client, session: Session) -> None:
    version = checked_version(session, builders.jsonl(ROWS))

    assert export(viewer_client, version, "card").status_code == 200
