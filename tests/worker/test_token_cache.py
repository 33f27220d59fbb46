"""Tokens that were made before: found again, whole or not there, and as training sees them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.datasets.table import HAS_ERROR, RECORD
from app.runs.spec import TrainerJob
from tests.fixtures.tiny_model import MARKED, PLAIN, make_tokenizer, rows, write_rows
from tests.worker.trainer_jobs import events, write_job
from worker.trainer import filling
from worker.trainer.data import encode, read_examples
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.filling import Model, tokens_of
from worker.trainer.preparing import prepare
from worker.trainer.sources import of_lines, of_table
from worker.trainer.splitting import held_out_places, key_of
from worker.trainer.tokensets import UNCUT, Cache, Part, gathered


def make_folder(folder: Path, template: str = MARKED) -> Path:
    make_tokenizer(template).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", rows(60))


def table_of(path: Path, *, bad: frozenset[int] = frozenset()) -> Path:
    """Write the table of a file of lines, with errors at the places ``bad``."""
    source = of_lines(path)
    records = np.zeros(len(source), RECORD)
    records["line"], records["offset"], records["size"] = (
        source.lines,
        source.offsets,
        source.sizes,
    )
    records["flags"][sorted(bad)] = HAS_ERROR
    target = path.with_suffix(".table")
    records.tofile(target)
    return target


def test_a_set_holds_what_each_row_gives_alone(
    model_folder: Path, dataset: Path, tmp_path: Path
) -> None:
    source = of_lines(dataset)
    tokenizer = make_tokenizer(MARKED)
    for cache in (None, tmp_path):
        tokens = tokens_of(Model(model_folder, cache), source, assistant_only=True)
        for number, example in enumerate(read_examples(dataset)):
            alone = encode(tokenizer, example, assistant_only=True)
            row = tokens.row(number, UNCUT)
            assert (row.line, row.ids, row.labels) == (alone.line, alone.ids, alone.labels)
            assert (row.trained, len(row)) == (alone.trained, len(alone))


def test_two_processes_make_the_same_set_as_one(model_folder: Path, tmp_path: Path) -> None:
    source = of_lines(write_rows(tmp_path / "rows", rows(2500)))
    one, two = (
        tokens_of(Model(model_folder), source, assistant_only=True, processes=count)
        for count in (1, 2)
    )
    assert one.digest == two.digest
    assert np.array_equal(one.keys, two.keys)
    assert np.array_equal(one.lines, two.lines)


def test_a_second_start_makes_nothing(
    model_folder: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = of_lines(dataset)
    first = tokens_of(Model(model_folder, tmp_path), source, assistant_only=True)

    def never(*_: object) -> Iterator[Part]:
        raise AssertionError("made again")

    monkeypatch.setattr(filling, "_here", never)
    again = tokens_of(Model(model_folder, tmp_path), source, assistant_only=True)
    assert again.digest == first.digest
    with pytest.raises(AssertionError, match="made again"):
        tokens_of(Model(model_folder, tmp_path), source, assistant_only=False)


@pytest.mark.parametrize("what", ["template", "tokenizer", "content", "rows", "mapping"])
def test_what_tokens_depend_on_has_a_key_of_its_own(
    what: str, dataset: Path, tmp_path: Path
) -> None:
    def of(model: Path, *, content: str = "abc", mapping: dict[str, str] | None = None) -> None:
        source = of_table(dataset, table, content=content, mapping=mapping)
        tokens_of(Model(model, tmp_path / "cache"), source, assistant_only=True)

    table = table_of(dataset)
    model = make_folder(tmp_path / "model")
    of(model)
    match what:
        case "template":
            (model / "chat_template.jinja").write_text(PLAIN)
            of(model)
        case "tokenizer":
            path = model / "tokenizer.json"
            path.write_text(path.read_text() + "\n")
            of(model)
        case "content":
            of(model, content="abd")
        case "rows":
            table_of(dataset, bad=frozenset({3}))
            of(model)
        case _:
            of(model, mapping={"system": "id"})
    kept = list((tmp_path / "cache" / "sets").iterdir())
    assert len(kept) == 2


def test_a_writer_that_is_killed_leaves_nothing_half(model_folder: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", rows(3000))
    script = (
        "import sys, time; from pathlib import Path\n"
        "from worker.trainer.filling import Model, tokens_of\n"
        "from worker.trainer.sources import of_lines\n"
        "def told(done, rows):\n"
        "    print(done, flush=True); time.sleep(0.2 if done else 0)\n"
        "model, rows, cache = map(Path, sys.argv[1:])\n"
        "tokens_of(Model(model, cache), of_lines(rows), assistant_only=True, told=told)\n"
    )
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", script, str(model_folder), str(path), str(cache)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 1000:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    (left,) = (cache / "sets").iterdir()
    assert left.name.startswith(".")
    assert (left / "ids").stat().st_size > 0
    source = of_lines(path)
    tokens = tokens_of(Model(model_folder, cache), source, assistant_only=True)
    assert len(tokens) == 3000
    os.utime(left, (0, 0))
    for part in left.iterdir():
        os.utime(part, (0, 0))
    Cache(cache).sweep()
    assert [one.name.startswith(".") for one in (cache / "sets").iterdir()] == [False]


def some(count: int) -> Part:
    return Part(b"\1\0\0\0" * count, b"\1" * count, [count], [7], [1], [0], [])


def test_the_set_used_longest_ago_goes_when_there_are_too_many(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for age, key in ((300, "old"), (200, "used"), (100, "new")):
        cache.put(key, [some(1000)])
        for part in (tmp_path / "sets" / key).iterdir():
            os.utime(part, (time.time() - age, time.time() - age))
        os.utime(tmp_path / "sets" / key, (time.time() - age, time.time() - age))
    cache.get("used")
    cache.sweep(most=12_000)
    assert {one.name for one in (tmp_path / "sets").iterdir()} == {"used", "new"}


def test_a_set_with_a_damaged_file_is_not_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("key", [some(10)])
    with (tmp_path / "sets" / "key" / "ids").open("ab") as file:
        file.write(b"more")
    assert cache.get("key") is None


def test_an_error_while_a_set_is_made_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Part]:
        yield some(3)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Cache(tmp_path).put("key", broken())
    assert list((tmp_path / "sets").iterdir()) == []


def test_what_is_learned_within_a_length_is_counted_for_each_row() -> None:
    trained = [b"\0\0\1\1\1", b"", b"\1", b"\0\0\0"]
    sizes = [len(one) for one in trained]
    part = Part(b"\1\0\0\0" * 9, b"".join(trained), sizes, [0] * 4, [1, 2, 3, 4], [0] * 4, [])
    tokens = gathered([part])
    assert tokens.learned(UNCUT).tolist() == [3, 0, 1, 0]
    assert tokens.learned(3).tolist() == [1, 0, 1, 0]
    assert tokens.learned(2).tolist() == [0, 0, 1, 0]


def test_words_that_differ_from_the_whole_are_given_up(
    model_folder: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    right = tokens_of(Model(model_folder), of_lines(dataset), assistant_only=True)
    monkeypatch.setattr(
        "worker.trainer.words.Words._joined",
        lambda _self, words: (b"\5\0\0\0" * 9, list(range(1, words.count("\3") + 1))),
    )
    again = tokens_of(Model(model_folder), of_lines(dataset), assistant_only=True)
    assert again.digest == right.digest
    assert "coded whole" in capsys.readouterr().out


# What preparing makes of it

CONFIG: dict[str, Any] = {
    "training": {"max_length": 128, "packing": False},
    "data": {"validation_fraction": 0.2},
}


def job_of(folder: Path, config: dict[str, Any], **fields: Any) -> TrainerJob:
    write_job(folder, config)
    job = json.loads((folder / "spec.json").read_text())
    return TrainerJob.model_validate({**job, **{key: _plain(it) for key, it in fields.items()}})


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def test_a_version_is_read_by_its_table_in_any_format(model_folder: Path, tmp_path: Path) -> None:
    found = [
        {"frage": f"What is {number}?", "output": f"It is {number}.", "input": ""}
        for number in range(20)
    ]
    path = write_rows(tmp_path / "rows", found)
    job = job_of(
        tmp_path / "job",
        CONFIG,
        base_model_folder=model_folder,
        dataset_file=path,
        table_file=table_of(path, bad=frozenset({4})),
        format="alpaca",
        mapping={"instruction": "frage"},
        content="abc",
        cache_folder=tmp_path / "cache",
    )
    prepared = prepare(job, Emitter(tmp_path / "job"))
    lines = {one.line for row in prepared.rows for one in row}
    lines |= {one.line for one in prepared.validation}
    assert lines == set(range(1, 21)) - {5}
    (example, *_) = prepared.held_out
    assert example.messages[0]["content"].startswith("What is")
    assert prepare(job, Emitter(tmp_path / "job")).fingerprint == prepared.fingerprint


def test_a_chosen_split_and_groups_say_which_rows_are_held_out(
    model_folder: Path, dataset: Path, tmp_path: Path
) -> None:
    table = table_of(dataset)
    sides = np.zeros(60, np.uint8)
    sides[[3, 17, 40]] = 1
    sides.tofile(tmp_path / "split")
    groups = np.arange(60, dtype=np.uint64)
    groups[30:] = np.arange(30)  # row 30 repeats row 0, and so on
    groups.tofile(tmp_path / "groups")
    given = {
        "base_model_folder": model_folder,
        "dataset_file": dataset,
        "table_file": table,
        "content": "abc",
    }
    job = job_of(tmp_path / "one", CONFIG, **given, split_file=tmp_path / "split")
    prepared = prepare(job, Emitter(tmp_path / "one"))
    assert [one.line for one in prepared.validation] == [4, 18, 41]
    job = job_of(tmp_path / "two", CONFIG, **given, groups_file=tmp_path / "groups")
    held = {one.line - 1 for one in prepare(job, Emitter(tmp_path / "two")).validation}
    assert {place % 30 for place in held if place < 30} == {
        place - 30 for place in held if place > 29
    }
    assert 8 <= len(held) <= 16


def test_a_file_is_measured_with_in_place_of_the_rows_that_are_in_it(
    model_folder: Path, dataset: Path, tmp_path: Path
) -> None:
    sides = np.zeros(60, np.uint8)
    sides[[3, 17]] = 1
    sides.tofile(tmp_path / "split")
    asked = [{"frage": f"How far is {number}?", "output": "Far away."} for number in range(5)]
    other = write_rows(tmp_path / "other", asked)
    job = job_of(
        tmp_path / "job",
        CONFIG,
        base_model_folder=model_folder,
        dataset_file=dataset,
        table_file=table_of(dataset),
        split_file=tmp_path / "split",
        measured={
            "dataset_file": str(other),
            "table_file": str(table_of(other, bad=frozenset({2}))),
            "format": "alpaca",
            "mapping": {"instruction": "frage"},
        },
    )
    prepared = prepare(job, Emitter(tmp_path / "job"))
    assert [one.line for one in prepared.validation] == [1, 2, 4, 5]
    assert all("How far" in str(one.messages) for one in prepared.held_out)
    assert {one.line for row in prepared.rows for one in row} == set(range(1, 61)) - {4, 18}


def test_refused_rows_fail_a_run_or_are_left_out_as_asked(dataset: Path, tmp_path: Path) -> None:
    picky = "{{ raise_exception('no boats') if 'boat' in messages[0]['content'] }}" + MARKED
    folder = make_folder(tmp_path / "model", picky)
    job = job_of(tmp_path / "job", CONFIG, base_model_folder=folder, dataset_file=dataset)
    with pytest.raises(TrainerError, match="no boats"):
        prepare(job, Emitter(tmp_path / "job"))
    config = {**CONFIG, "data": {"validation_fraction": 0.2, "exclude_problem_rows": True}}
    job = job_of(tmp_path / "job", config, base_model_folder=folder, dataset_file=dataset)
    prepared = prepare(job, Emitter(tmp_path / "job"))
    assert 0 < len(prepared.rows) + len(prepared.validation) < 60
    told = [event["values"]["code"] for event in events(tmp_path / "job", "alert")]
    assert "template_rejects_row" in told


def test_equal_rows_are_on_one_side_whatever_the_seed() -> None:
    keys = np.array(
        [key_of([{"role": "user", "content": str(n % 40)}]) for n in range(200)], np.uint64
    )
    for seed in range(20):
        held = held_out_places(keys, fraction=0.1, seed=seed)
        assert {place % 40 for place in held} == {
            place % 40 for place in range(200) if place in held
        }
        assert len(held) == 20
        assert all((place + 40) % 200 in held for place in held)
