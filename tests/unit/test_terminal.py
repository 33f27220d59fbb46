"""`tunebox validate` says what an upload would be told, and ends as a commit hook needs it."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.unit.test_validation_cases import GOOD, SIXTY, lines, said


def run(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["validate", str(path), *options])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_a_good_file_ends_with_0_and_a_bad_one_with_1(file: Path) -> None:
    file.write_bytes(lines(GOOD))
    good = run(file)
    file.write_bytes(lines(GOOD, b"[1]"))
    bad = run(file)

    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "ready, good rows: 1" in good.output
    assert f"{file}:2: error not_an_object" in bad.output


def test_it_can_be_told_as_json(file: Path) -> None:
    file.write_bytes(lines(GOOD, b"", said("<|im_end|>")))

    found = json.loads(run(file, "--json").output)

    assert found["by_code"] == {"blank_line": 1, "special_token_in_text": 1}
    assert [problem["line"] for problem in found["problems"]] == [2, 3]


def test_near_duplicates_are_looked_for_when_asked(file: Path) -> None:
    file.write_bytes(lines(said(SIXTY), said(SIXTY + " more")))

    assert "warning near_duplicate" not in run(file).output
    assert f"{file}:2: warning near_duplicate" in run(file, "--deep").output


def test_every_container_is_read(tmp_path: Path) -> None:
    packed = tmp_path / "rows"
    packed.write_bytes(gzip.compress(b"prompt,completion\nWhat is it?,A lamp of glass.\n,\n"))

    result = run(packed, "--json")

    found = json.loads(result.output)
    assert (result.exit_code, found["format"], found["examples"]) == (1, "prompt_completion", 1)
    assert {problem["line"] for problem in found["problems"]} == {3}


def test_a_format_may_be_said_and_must_be_known(file: Path) -> None:
    file.write_bytes(b'{"prompt": "Is it a box?", "completion": "It is a box."}\n')

    assert run(file).exit_code == 0
    assert run(file, "--format", "messages").exit_code == 1
    unknown = run(file, "--format", "nonsense")
    assert (unknown.exit_code, "use one of messages" in unknown.output) == (2, True)
    assert run(file / "none").exit_code == 2


def test_a_base_model_adds_what_its_tokens_say(file: Path) -> None:
    file.write_bytes(lines(said("word " * 50), b"[1]"))

    model = ("--base-model", "app/demo/model", "--max-length", "20", "--json")
    found = json.loads(run(file, *model).output)

    assert found["by_code"] == {"not_an_object": 1, "too_long": 1, "no_trained_tokens": 1}
    assert run(file, "--base-model", str(file.parent)).exit_code == 2
