"""The trainer's outside: its event file, its spec and the names of its failures."""

import errno
import json
from pathlib import Path

import pytest

from app.jobs.state import EXIT_CODES, FailureKind
from app.runs.spec import RunConfig, Training
from tests.worker.trainer_jobs import events, run
from worker.trainer.emitter import Emitter
from worker.trainer.failures import changes_for, classify, describe


def test_a_torn_last_line_is_cut_and_the_count_goes_on(tmp_path: Path) -> None:
    first = Emitter(tmp_path)
    first.log("one")
    first.log("two")
    first.close()
    path = tmp_path / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"seq": 3, "type": "lo')
    second = Emitter(tmp_path)
    second.log("three")
    assert [(e["seq"], e["values"]["text"]) for e in events(tmp_path)] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
    ]


@pytest.mark.parametrize("content", [b"", b'{"seq": 1, "ty', b"\x00\x00\n"])
def test_a_file_without_a_whole_line_begins_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.jsonl").write_bytes(content)
    emitter = Emitter(tmp_path)
    emitter.log("one")
    assert [event["seq"] for event in events(tmp_path)] == [1]


def test_numbers_that_are_none_become_null(tmp_path: Path) -> None:
    Emitter(tmp_path).metrics({"train/loss": float("nan"), "x": float("inf")}, step=1)
    assert events(tmp_path)[0]["values"] == {"train/loss": None, "x": None}


def test_a_spec_with_an_unknown_field_fails_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"surprise": 1}))
    assert run(tmp_path) == EXIT_CODES[FailureKind.INTERNAL]
    assert "spec.json does not fit" in events(tmp_path)[-1]["values"]["evidence"]


def test_torchs_own_out_of_memory_is_named_with_half_the_batch() -> None:
    import torch

    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    failure = describe(error, RunConfig(training=Training(batch_size=8, gradient_accumulation=2)))
    assert failure.kind is FailureKind.OUT_OF_MEMORY
    assert "20.00 GiB" in failure.evidence
    assert failure.changes == {"training.batch_size": 4, "training.gradient_accumulation": 4}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("CUDA error: out of memory"), FailureKind.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), FailureKind.OUT_OF_MEMORY),
        (MemoryError(), FailureKind.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), FailureKind.DISK_FULL),
        (RuntimeError("I/O error: No space left on device (os error 28)"), FailureKind.DISK_FULL),
        (KeyError("nothing we know"), FailureKind.INTERNAL),
    ],
)
def test_a_librarys_words_name_the_kind(error: Exception, kind: FailureKind) -> None:
    assert classify(error) is kind


def test_a_batch_of_one_that_is_too_large_gets_another_cure() -> None:
    one = Training(batch_size=1, gradient_checkpointing=False)
    config = RunConfig(training=one)
    assert changes_for(FailureKind.OUT_OF_MEMORY, config) == {
        "training.gradient_checkpointing": True
    }
