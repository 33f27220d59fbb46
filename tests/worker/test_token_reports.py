"""What a dataset costs in tokens, and a row as it is trained: by real children of the trainer."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.auth.roles import Actor, Role
from app.errors import Conflict, NotFound
from app.jobs.state import JobStatus
from app.kit.db import transaction
from app.kit.storage import model_folder
from app.queue import Lane
from app.tokens import service
from app.tokens.service import Pair, ReportView
from tests.fixtures.builders import (
    conversation,
    create_base_model,
    create_dataset_version,
    create_user,
    jsonl,
)
from tests.fixtures.tiny_model import MARKED, make_tokenizer
from tests.worker.box import Box
from worker import supervisor

ROWS = [
    conversation("Which colour?", "red"),
    conversation("Tell me a long story. " * 20, "No."),
    conversation("Which colour?", "green house " * 90),
]
PICKY = "{{ raise_exception('no green') if 'green' in messages[1]['content'] }}" + MARKED


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(MARKED).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


def prepare(
    session: Session, box: Box, tokenizer: Path, *, template: str | None = None, **columns: Any
) -> tuple[Pair, Actor]:
    """Make a version and a model whose folder is there."""
    owner = create_user(session, role=Role.MEMBER)
    version = create_dataset_version(session, owner=owner, **columns)
    model = create_base_model(session, owner=owner)
    folder = model_folder(box.settings, model.folder)
    shutil.copytree(tokenizer, folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return Pair(version, model), owner


def reported(box: Box, asked: Pair, actor: Actor, *, max_length: int = 128) -> ReportView:
    """Ask for a report, let a worker make it, and look at it."""
    with transaction(box.url) as session:
        view = service.ask(session, actor=actor, asked=asked, max_length=max_length)
    supervisor.serve(Lane.LIGHT)
    with transaction(box.url) as session:
        return service.look(session, report_id=view.report.id)


def test_a_report_says_what_is_cut_lost_and_trained(box: Box, tokenizer_folder: Path) -> None:
    with transaction(box.url) as session:
        asked, actor = prepare(session, box, tokenizer_folder, content=jsonl(ROWS))
    view = reported(box, asked, actor)
    assert view.status == "ready"
    result = view.report.result
    assert result is not None
    assert result["rows"] == 3
    assert result["too_long"]["lines"] == [2, 3]
    assert result["no_trained_tokens"]["lines"] == [2]
    assert result["too_long"]["trained_tokens_lost"] > 0
    assert result["by_code"] == {
        "too_long": 2,
        "no_trained_tokens": 1,
        "template_rejects_row": 0,
    }
    assert sum(result["lengths"]["counts"]) == 3
    assert 0 < result["tokens"]["trained"] < result["tokens"]["total"] <= 2 * 128
    assert result["padding"]["packed"]["rows"] <= result["padding"]["unpacked"]["rows"] == 2
    assert {(one["line"], one["code"]) for one in result["problems"]} == {
        (2, "too_long"),
        (3, "too_long"),
        (2, "no_trained_tokens"),
    }


def test_rows_that_the_template_refuses_are_named_with_the_reason(
    box: Box, tokenizer_folder: Path
) -> None:
    with transaction(box.url) as session:
        asked, actor = prepare(session, box, tokenizer_folder, template=PICKY, content=jsonl(ROWS))
    result = reported(box, asked, actor).report.result
    assert result is not None
    (refused,) = result["template_rejects_row"]["lines"]
    assert (refused["line"], "no green" in refused["reason"]) == (3, True)


def test_a_report_is_made_once_and_again_when_the_version_was_checked_anew(
    box: Box, tokenizer_folder: Path
) -> None:
    with transaction(box.url) as session:
        asked, actor = prepare(session, box, tokenizer_folder, content=jsonl(ROWS))
    made = reported(box, asked, actor)
    with transaction(box.url) as session:
        again = service.ask(session, actor=actor, asked=asked, max_length=128)
        assert (again.status, again.job, again.report.id) == ("ready", None, made.report.id)
        session.merge(asked.version).checked_at = service.utc_now()
    with transaction(box.url) as session:
        asked = Pair(session.merge(asked.version), asked.model)
        assert service.ask(session, actor=actor, asked=asked, max_length=128).status == "running"


def test_a_report_that_cannot_be_made_says_why_and_may_be_tried_again(
    box: Box, tokenizer_folder: Path
) -> None:
    with transaction(box.url) as session:
        asked, actor = prepare(session, box, tokenizer_folder, content=jsonl(ROWS))
    path = model_folder(box.settings, asked.model.folder) / "tokenizer.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    view = reported(box, asked, actor)
    assert view.status == "failed"
    with pytest.raises(Conflict, match="tokenizer"):
        service.require_made(view)
    path.write_bytes(whole)
    assert reported(box, asked, actor).status == "ready"


def test_a_report_whose_dataset_is_gone_fails_its_job(box: Box, tokenizer_folder: Path) -> None:
    with transaction(box.url) as session:
        asked, actor = prepare(session, box, tokenizer_folder, content=jsonl(ROWS))
        view = service.ask(session, actor=actor, asked=asked, max_length=128)
        assert view.job is not None
        job_id = view.job.id
        session.delete(view.report)
    supervisor.serve(Lane.LIGHT)
    assert box.job(job_id).status == JobStatus.FAILED


def shown(box: Box, asked: Pair, line: int, max_length: int | None = None) -> dict[str, Any]:
    return service.preview(box.settings, asked, line=line, max_length=max_length)


def test_a_preview_shows_each_token_and_what_is_trained(box: Box, tokenizer_folder: Path) -> None:
    content = jsonl([conversation("Wie heißt du? 🚗", "ich heiße 🚗")])
    with transaction(box.url) as session:
        asked, _ = prepare(session, box, tokenizer_folder, content=content)
    found = shown(box, asked, 1)
    texts = [token["text"] for token in found["tokens"]]
    assert texts[0] == "<|im_start|>"
    assert "<0xF0>" in texts, "the bytes of half a character are shown as bytes"
    trained = "".join(token["text"] for token in found["tokens"] if token["trained"])
    assert trained == "ich heiße <0xF0><0x9F><0x9A><0x97><|im_end|>".replace(
        "ß", "<0xC3><0x9F>" if "<0xC3>" in texts else "ß"
    )
    assert (found["trained"], found["total"]) == (
        sum(token["trained"] for token in found["tokens"]),
        len(texts),
    )
    cut = shown(box, asked, 1, 16)
    assert [token["cut"] for token in cut["tokens"]] == [place >= 16 for place in range(len(texts))]
    assert (cut["total"], cut["uncut"]) == (16, len(texts))


def test_a_preview_of_a_refused_row_says_why(box: Box, tokenizer_folder: Path) -> None:
    with transaction(box.url) as session:
        asked, _ = prepare(session, box, tokenizer_folder, template=PICKY, content=jsonl(ROWS))
    with pytest.raises(Conflict, match="no green") as caught:
        shown(box, asked, 3)
    assert caught.value.code == "template_rejects_row"
    with pytest.raises(NotFound, match="line 9"):
        shown(box, asked, 9)


@pytest.mark.parametrize(
    "hostile",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set x = namespace(v='x') %}{% for i in range(99) %}{% set x.v = x.v * 2 %}{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
    ids=["endless", "memory", "escape"],
)
def test_a_hostile_template_is_refused_and_hangs_nothing(
    box: Box, tokenizer_folder: Path, hostile: str
) -> None:
    with transaction(box.url) as session:
        asked, _ = prepare(session, box, tokenizer_folder, template=hostile, content=jsonl(ROWS))
    with pytest.raises(Conflict) as caught:
        shown(box, asked, 1)
    assert caught.value.code in {"template_rejects_row", "out_of_memory"}
