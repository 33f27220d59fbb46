"""The simulated recipe: a real process with a real trainer's files, exits and failures."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from app.jobs.state import EXIT_CANCELLED, EXIT_CODES, EXIT_DONE, EXIT_STOPPED, FailureKind
from tests.worker.trainer_jobs import events, run, series, start, write_job


def job(folder: Path, **simulate: object) -> Path:
    plan = {"steps": 20, "step_seconds": 0.0, **simulate}
    return write_job(folder, {"objective": "simulated", "simulate": plan})


def wait_for_step(folder: Path, step: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if any(event["step"] == step for event in events(folder, "metrics")):
            return
        time.sleep(0.02)
    pytest.fail(f"step {step} was not reached")


def test_it_tells_every_step_in_order_and_leaves_a_report(tmp_path: Path) -> None:
    assert run(job(tmp_path)) == EXIT_DONE
    assert [event["seq"] for event in events(tmp_path)] == list(range(1, len(events(tmp_path)) + 1))
    assert sorted(series(tmp_path, "train/loss")) == list(range(1, 21))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["n"] == len((tmp_path / "items.jsonl").read_text().splitlines())


@pytest.mark.parametrize("kind", list(FailureKind))
def test_each_failure_ends_with_its_code_and_says_its_kind(
    tmp_path: Path, kind: FailureKind
) -> None:
    folder = job(tmp_path, fail={"kind": kind, "at_step": 2}, steps=4)
    assert run(folder) == EXIT_CODES[kind]
    last = events(folder)[-1]
    assert (last["type"], last["values"]["kind"]) == ("failure", kind)


def test_a_loss_that_is_no_number_travels_as_null_and_fails_as_diverged(tmp_path: Path) -> None:
    folder = job(tmp_path, fail={"kind": "nan", "at_step": 3})
    assert run(folder) == EXIT_CODES[FailureKind.DIVERGED]
    assert series(folder, "train/loss")[3] is None
    assert events(folder)[-1]["values"]["changes"] == {"training.learning_rate": 1e-4}


def test_a_killed_run_goes_on_and_tells_the_same_curve(tmp_path: Path) -> None:
    assert run(job(tmp_path / "whole")) == EXIT_DONE
    folder = job(tmp_path / "killed", fail={"kind": "crash", "at_step": 13})
    assert run(folder) == -signal.SIGKILL
    job(folder)
    assert run(folder) == EXIT_DONE
    assert series(folder, "train/loss") == series(tmp_path / "whole", "train/loss")
    resumed = [e for e in events(folder, "phase") if e["values"]["phase"] == "resumed"]
    assert [event["step"] for event in resumed] == [12]


@pytest.mark.parametrize(
    ("mode", "code", "adapter"),
    [
        ("save", EXIT_STOPPED, True),
        ("pause", EXIT_STOPPED, False),
        ("cancel", EXIT_CANCELLED, False),
        (None, EXIT_STOPPED, False),
    ],
)
def test_sigterm_ends_the_run_as_stop_json_says(
    tmp_path: Path, mode: str | None, code: int, adapter: bool
) -> None:
    folder = job(tmp_path, steps=1000, step_seconds=0.02)
    process = start(folder)
    wait_for_step(folder, 3)
    if mode:
        (folder / "stop.json").write_text(json.dumps({"mode": mode}))
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=10) == code
    assert (folder / "adapter").exists() is adapter
    assert any((folder / "checkpoints").glob("step-*")) is (mode != "cancel")


def test_it_runs_without_torch(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None\n")
    folder = job(tmp_path / "job")
    assert run(folder, PYTHONPATH=str(tmp_path)) == EXIT_DONE
