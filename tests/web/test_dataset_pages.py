"""The pages of a dataset say what is known of it, and offer what may be done."""

import json
import re

import pytest
from sqlalchemy.orm import Session

from tests.fixtures.builders import conversation, jsonl
from tests.fixtures.client import Client
from tests.fixtures.datasets import checked_version

ROWS = [conversation(f"What is in box {n}?", f"Box {n} holds {n} <b>lamps</b>.") for n in range(60)]
CONTENT = jsonl(ROWS[:30]) + b'{"messages": []}\n' + jsonl(ROWS[30:])


def lines_of(text: str) -> list[int]:
    return [int(line) for line in re.findall(r'aria-label="Line (\d+)"', text)]


class TestOverview:
    def test_it_shows_problems_statistics_and_sections(
        self, client: Client, session: Session
    ) -> None:
        version = checked_version(session, CONTENT, owner=client.actor, name="a <i>name</i>")
        answer = client.get(f"/datasets/{version.dataset_id}")
        assert answer.status_code == 200
        assert "a &lt;i&gt;name&lt;/i&gt;" in answer.text
        assert "empty_messages" in answer.text
        assert f'href="/datasets/{version.dataset_id}/examples"' in answer.text


class TestExamples:
    def test_rows_are_paged_by_their_number(self, client: Client, session: Session) -> None:
        version = checked_version(session, CONTENT, owner=client.actor)
        first = client.get(f"/datasets/{version.dataset_id}/examples").text
        following = re.search(r'rel="next" href="([^"]+)"', first)
        assert following is not None
        second = client.get(following[1].replace("&amp;", "&")).text
        assert lines_of(first) == list(range(1, 21))
        assert lines_of(second) == list(range(21, 41))
        assert "&lt;b&gt;lamps&lt;/b&gt;" in first

    def test_a_kind_of_problem_leaves_its_rows(self, client: Client, session: Session) -> None:
        version = checked_version(session, CONTENT, owner=client.actor)
        text = client.get(f"/datasets/{version.dataset_id}/examples?code=empty_messages").text
        assert lines_of(text) == [31]

    def test_a_search_finds_text_however_json_spells_it(
        self, client: Client, session: Session
    ) -> None:
        escaped = json.dumps(conversation("Wo ist die Tür?", "Im Keller, unten links."))
        content = CONTENT + escaped.encode() + b"\n" + jsonl([conversation("TÜR", "Keller rechts")])
        version = checked_version(session, content, owner=client.actor)
        address = f"/datasets/{version.dataset_id}/examples"
        assert lines_of(client.get(f"{address}?q=tür").text) == [62]
        assert lines_of(client.get(f"{address}?q=BOX 59 holds").text) == [61]
        assert "No row holds" in client.get(f"{address}?q=nowhere").text

    @pytest.mark.parametrize("query", ["q=x", "code=nonsense", "q=box&code=empty_messages"])
    def test_what_cannot_be_shown_is_said(
        self, client: Client, session: Session, query: str
    ) -> None:
        version = checked_version(session, CONTENT, owner=client.actor)
        text = client.get(f"/datasets/{version.dataset_id}/examples?{query}").text
        assert 'class="advice bad"' in text
        assert lines_of(text) == []

    def test_the_same_rows_come_over_the_api(self, client: Client, session: Session) -> None:
        version = checked_version(session, CONTENT, owner=client.actor)
        address = f"/api/v1/datasets/{version.dataset_id}/examples"
        found = client.get(f"{address}?q=Box 31 holds&limit=1").json()
        rest = client.get(f"{address}?row=61&limit=5").json()
        assert [(row["line"], row["row_number"]) for row in found["items"]] == [(33, 33)]
        assert found["next_row"] is None
        assert [row["line"] for row in rest["items"]] == [61]
