"""The pages of a dataset say what is known of it, and offer what may be done."""

import json
import re

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.datasets import splits
from app.datasets.models import DatasetSplit, DatasetVersion, TokenReport, unmade_sha256
from app.kit.clock import utc_now
from tests.fixtures.builders import conversation, create_base_model, jsonl
from tests.fixtures.client import Client
from tests.fixtures.datasets import add_version, check, checked_version

REPORT = {
    "rows": 60,
    "tokens": {"total": 1200, "trained": 600},
    "lengths": {
        "max": 72,
        "percentiles": {"50": 20, "99": 60},
        "edges": [0, 40, 73],
        "counts": [59, 1],
    },
    "too_long": {"rows": 1, "tokens_cut": 8, "trained_tokens_lost": 3, "lines": [7]},
    "no_trained_tokens": {"rows": 0, "lines": []},
    "template_rejects_row": {"rows": 0, "lines": []},
    "padding": {"unpacked": {"share": 0.2}, "packed": {"share": 0.01}},
    "steps": {"rows_in_step": 8, "unpacked": 8, "packed": 3},
}
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


class TestColumns:
    CONTENT = jsonl(
        [{"question": f"Box {n}?", "answer": f"It holds {n} lamps.", "n": n} for n in range(5)]
    )

    def test_usual_names_are_proposed(self, client: Client, session: Session) -> None:
        version = checked_version(session, self.CONTENT, owner=client.actor)
        page = client.get(f"/datasets/{version.dataset_id}/columns?format=prompt_completion").text
        assert re.search(r'name="mapping.prompt".*?value="question" selected', page, re.DOTALL)
        assert re.search(r'name="mapping.completion".*?value="answer" selected', page, re.DOTALL)
        assert "Box 0?" in page

    def test_what_was_said_is_checked_and_kept(self, client: Client, session: Session) -> None:
        version = checked_version(session, self.CONTENT, owner=client.actor)
        form = {
            "version": "1",
            "format": "prompt_completion",
            "mapping.prompt": "question",
            "mapping.completion": "answer",
            "mapping.system": "",
        }
        answer = client.post(
            f"/datasets/{version.dataset_id}/columns", data=form, follow_redirects=False
        )
        assert answer.status_code == 303
        version = session.get_one(DatasetVersion, version.id)
        assert version.status == "checking"
        assert version.mapping == {"prompt": "question", "completion": "answer"}
        check(session, version)
        assert (version.status, version.format, version.examples) == (
            "ready",
            "prompt_completion",
            5,
        )

    def test_a_column_that_there_is_not_is_said_at_its_field(
        self, client: Client, session: Session
    ) -> None:
        version = checked_version(session, self.CONTENT, owner=client.actor)
        form = {"format": "prompt_completion", "mapping.prompt": "nowhere"}
        answer = client.post(f"/datasets/{version.dataset_id}/columns", data=form)
        assert answer.status_code == 422
        assert "The file has no column &#34;nowhere&#34;" in answer.text


def test_a_version_whose_content_is_still_brought_says_so(client: Client, session: Session) -> None:
    version = checked_version(session, jsonl(ROWS), owner=client.actor)
    version.sha256, version.status = unmade_sha256(version.id), "checking"
    session.flush()
    address = f"/datasets/{version.dataset_id}"

    page = client.get(address).text
    assert "Bringing the rows in." in page
    assert "making:" not in page
    assert "As uploaded" not in page

    version = session.get_one(DatasetVersion, version.id)
    version.status, version.failure = "failed", "There is no such file now."
    session.flush()
    page = client.get(address).text
    assert "There is no such file now. Nothing of it is kept." in page


class TestRepairs:
    CONTENT = b"\xef\xbb\xbf" + CONTENT + jsonl(ROWS[:1])

    def test_what_fits_is_offered(self, client: Client, session: Session) -> None:
        version = checked_version(session, self.CONTENT, owner=client.actor)
        page = client.get(f"/datasets/{version.dataset_id}/repairs").text
        assert 'value="bom"' in page
        assert 'value="exact_duplicates"' in page
        assert 'value="role_names"' not in page

    def test_a_difference_comes_before_the_version(self, client: Client, session: Session) -> None:
        version = checked_version(session, self.CONTENT, owner=client.actor)
        address = f"/datasets/{version.dataset_id}/repairs"
        page = client.get(f"{address}?repair=exact_duplicates").text
        assert "the row is left out" in page
        assert "Save as v2" in page

    def test_saving_makes_a_version_with_its_recipe(self, client: Client, session: Session) -> None:
        version = checked_version(session, self.CONTENT, owner=client.actor)
        answer = client.post(
            f"/datasets/{version.dataset_id}/repairs",
            data={"version": "1", "repair": ["bom", "exact_duplicates"]},
            follow_redirects=False,
        )
        assert answer.status_code == 303
        made = session.scalars(select(DatasetVersion).where(DatasetVersion.number == 2)).one()
        assert made.parent_id == version.id
        check(session, made)
        assert made.bytes < version.bytes
        assert (made.by_code or {}).get("bom") is None

    def test_the_problems_link_to_their_repair(self, client: Client, session: Session) -> None:
        version = checked_version(session, self.CONTENT, owner=client.actor)
        page = client.get(f"/datasets/{version.dataset_id}").text
        assert "repair=exact_duplicates" in page


class TestRepeats:
    def test_copies_stand_side_by_side(self, client: Client, session: Session) -> None:
        version = checked_version(session, jsonl([*ROWS, ROWS[3]]), owner=client.actor)
        page = client.get(f"/datasets/{version.dataset_id}/repeats").text
        assert "1 of 61 rows" in page
        assert 'aria-label="Lines 4 and 61"' in page

    def test_rows_of_another_dataset_are_found(self, client: Client, session: Session) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        other = checked_version(session, jsonl(ROWS[10:12]), owner=client.actor, name="suite")
        address = f"/datasets/{version.dataset_id}/repeats?with={other.dataset_id}"
        assert "2 of 60 rows" in client.get(address).text


class TestVersions:
    def test_changes_are_told_by_kind(self, client: Client, session: Session) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        changed = [*ROWS[:5], conversation("What is in box 5?", "Box 5 is empty."), *ROWS[6:-1]]
        second = add_version(session, version, jsonl(changed))
        page = client.get(f"/datasets/{version.dataset_id}/versions").text
        assert second.number == 2
        for count in ("0 added", "1 removed", "1 changed"):
            assert count in page
        assert "<del>" in page

    def test_one_version_alone_says_how_others_come(self, client: Client, session: Session) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        page = client.get(f"/datasets/{version.dataset_id}/versions").text
        assert "no earlier version" in page


class TestSplits:
    @pytest.mark.parametrize("method", ["random", "group", "stratified", "column", "file"])
    def test_each_method_has_its_fields(
        self, client: Client, session: Session, method: str
    ) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        page = client.get(f"/datasets/{version.dataset_id}/splits?method={method}").text
        assert ('name="column"' in page) == (method in {"group", "stratified", "column"})
        assert ('name="fraction"' in page) == (method in {"random", "group", "stratified"})
        assert ('name="file"' in page) == (method == "file")

    def test_a_split_is_kept_and_deleted(self, client: Client, session: Session) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        address = f"/datasets/{version.dataset_id}/splits"
        form = {"version": "1", "method": "random", "fraction": "0.25", "seed": "7"}
        assert client.post(address, data=form, follow_redirects=False).status_code == 303
        split = session.scalars(select(DatasetSplit)).one()
        assert "validation 15" in client.get(address).text
        client.post(f"{address}/{split.id}/delete")
        assert session.scalars(select(DatasetSplit)).all() == []

    def test_a_split_that_is_being_made_shows_how_far_it_is(
        self, client: Client, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(splits, "LARGE_ROWS", 1)
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        address = f"/datasets/{version.dataset_id}/splits"
        form = {"version": "1", "method": "random", "fraction": "0.25", "seed": "7"}
        answer = client.post(address, data=form, follow_redirects=False)
        assert answer.status_code == 303

        page, part = client.get(address).text, client.get(f"{address}/parted?version=1").text

        for shown in (page, part):
            assert "Waiting for a worker" in shown
            assert 'hx-trigger="every 1s"' in shown
            assert f"split={session.scalars(select(DatasetSplit)).one().id}" not in shown
        assert part.lstrip().startswith('<section class="card" id="datasets-parted"')
        queue = client.get("/").text
        assert f"/datasets/{version.dataset_id}/splits?version=1" in queue

    def test_why_a_split_could_not_be_made_is_said(self, client: Client, session: Session) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        split = DatasetSplit(
            id="spl_1",
            version_id=version.id,
            method="group",
            parameters={"column": "x"},
            result={},
            sha256="",
            failure="no row has the column x",
            created_by=client.actor.id,
        )
        session.add(split)
        session.flush()

        page = client.get(f"/datasets/{version.dataset_id}/splits").text

        assert "no row has the column x" in page
        assert "every 1s" not in page

    def test_a_wrong_field_is_said_at_its_place(self, client: Client, session: Session) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        form = {"version": "1", "method": "random", "fraction": "3"}
        answer = client.post(f"/datasets/{version.dataset_id}/splits", data=form)
        assert answer.status_code == 422
        assert 'id="f-fraction-e"' in answer.text


class TestTokens:
    def test_without_a_model_it_says_where_to_get_one(
        self, client: Client, session: Session
    ) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        page = client.get(f"/datasets/{version.dataset_id}/tokens").text
        assert "No base model is ready" in page

    def test_a_report_is_asked_for_and_then_shown(self, client: Client, session: Session) -> None:
        version = checked_version(session, jsonl(ROWS), owner=client.actor)
        model = create_base_model(session, owner=client.actor)
        address = f"/datasets/{version.dataset_id}/tokens"
        form = {"version": "1", "base_model": model.id, "max_length": "64"}
        answer = client.post(address, data=form)
        page = client.get(answer.headers["location"]).text
        assert "Waiting for a worker" in page
        report = session.scalars(select(TokenReport)).one()
        report.result, report.finished_at = REPORT, utc_now()
        session.flush()
        page = client.get(f"{address}?base_model={model.id}&max_length=64").text
        assert "8 tokens are cut off, 3 of them to learn" in page
        assert "data-histogram" in page
