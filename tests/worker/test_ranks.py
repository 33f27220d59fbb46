"""A run on several devices makes the steps that one device makes; its processes live together."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.jobs.state import EXIT_CODES, EXIT_DONE, EXIT_STOPPED, FailureKind
from tests.fixtures.preferences import judged, pairs
from tests.fixtures.tiny_model import write_rows
from tests.worker.trainer_jobs import Inputs, events, make_inputs, run, series, start, write_job

pytestmark = pytest.mark.xdist_group("ranks")  # what it trains first serves all

CONFIG: dict[str, Any] = {
    "adapter": {"rank": 4, "alpha": 8},
    "training": {
        "learning_rate": 0.02,
        "batch_size": 3,  # so that the ranks' shares of a step differ
        "gradient_accumulation": 1,
        "max_steps": 6,
        "max_length": 128,
        "packing": False,
    },
    "evaluation": {"every_steps": 3},
}
ENDLESS = {**CONFIG, "training": {**CONFIG["training"], "max_steps": 100_000}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"), count=40)


def job(
    folder: Path,
    inputs: Inputs,
    config: dict[str, Any],
    *,
    devices: int,
    form: str = "messages",
) -> Path:
    write_job(folder, config, model=inputs.model, dataset=inputs.dataset, form=form)
    spec = json.loads((folder / "spec.json").read_text())
    spec["run"]["resources"] = {"devices": devices, "kind": "cpu"}
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def wait_for_step(folder: Path, step: int) -> None:
    end = time.monotonic() + 120
    while max(series(folder, "train/loss"), default=0) < step:
        assert time.monotonic() < end, (folder / "log.txt").read_text()[-2000:]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Path:
    folder = job(tmp_path_factory.mktemp("alone"), inputs, CONFIG, devices=1)
    assert run(folder) == EXIT_DONE
    return folder


def test_two_ranks_have_the_losses_of_one(tmp_path: Path, inputs: Inputs, alone: Path) -> None:
    folder = job(tmp_path, inputs, CONFIG, devices=2)

    assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()[-2000:]

    for name in ("train/loss", "train/grad_norm", "eval/loss"):
        assert series(folder, name) == pytest.approx(series(alone, name), rel=1e-4), name
    assert len(events(folder, "evaluation")) == 1
    assert len(series(folder, "train/loss")) == 6
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("objective", ["dpo", "kto", "reward"])
def test_two_ranks_learn_preferences_as_one_does(
    tmp_path: Path, inputs: Inputs, objective: str
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", judged(40) if objective == "kto" else pairs(40))
    config = {**CONFIG, "objective": objective}
    folders = [
        job(
            tmp_path / str(count),
            Inputs(inputs.model, rows),
            config,
            devices=count,
            form="preference",
        )
        for count in (1, 2)
    ]
    for folder in folders:
        assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()[-2000:]
    alone, together = (dict[str, Any](), dict[str, Any]())
    for found, folder in zip((alone, together), folders, strict=True):
        for name in ("train/loss", "train/grad_norm", "train/kl", "eval/loss"):
            found |= {f"{name} {step}": value for step, value in series(folder, name).items()}
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-6)


def test_a_rank_without_a_prompt_keeps_nobody_waiting(tmp_path: Path, inputs: Inputs) -> None:
    training = {**CONFIG["training"], "batch_size": 4, "max_steps": 2}
    config = {
        **CONFIG,
        "objective": "grpo",
        "training": training,
        "sampling": {"num_generations": 4, "max_completion_length": 4},
        "rewards": {"exact_match": 0, "length": 1},
    }
    folder = job(tmp_path, inputs, config, devices=2)
    assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()[-2000:]
    assert sorted(series(folder, "train/reward")) == [1, 2]
    assert max(series(folder, "train/completions/mean_length").values()) <= 4


def test_a_run_goes_on_with_another_number_of_devices(
    tmp_path: Path, inputs: Inputs, alone: Path
) -> None:
    half = {**CONFIG, "training": {**CONFIG["training"], "scheduler": "constant"}}
    whole = job(tmp_path / "whole", inputs, half, devices=1)
    assert run(whole) == EXIT_DONE
    short = {**half, "training": {**half["training"], "max_steps": 3}}
    folder = job(tmp_path / "parted", inputs, short, devices=2)
    assert run(folder) == EXIT_DONE
    job(folder, inputs, half, devices=1)
    assert run(folder) == EXIT_DONE
    assert series(folder, "train/loss") == pytest.approx(series(whole, "train/loss"), rel=1e-4)


def test_all_ranks_leave_after_the_same_step_when_asked(tmp_path: Path, inputs: Inputs) -> None:
    folder = job(tmp_path, inputs, ENDLESS, devices=2)
    process = start(folder)
    wait_for_step(folder, 2)
    (other,) = psutil.Process(process.pid).children()
    (folder / "stop.json").write_text(json.dumps({"mode": "pause"}))
    os.kill(other.pid, signal.SIGTERM)  # as a signal to the group reaches it too
    process.terminate()

    assert process.wait(60) == EXIT_STOPPED
    assert not other.is_running()
    last = max(series(folder, "train/loss"))
    assert (folder / "checkpoints" / f"step-{last}").is_dir()


def test_a_rank_that_dies_ends_the_run_and_says_which(tmp_path: Path, inputs: Inputs) -> None:
    folder = job(tmp_path, inputs, ENDLESS, devices=2)
    process = start(folder)
    wait_for_step(folder, 1)
    (other,) = psutil.Process(process.pid).children()
    other.kill()

    assert process.wait(60) == EXIT_CODES[FailureKind.INTERNAL]
    (failure,) = events(folder, "failure")
    assert failure["values"]["kind"] == "internal"


def test_no_rank_outlives_the_first(tmp_path: Path, inputs: Inputs) -> None:
    process = start(job(tmp_path, inputs, ENDLESS, devices=2))
    wait_for_step(tmp_path, 1)
    (other,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    psutil.wait_procs([other], timeout=20)
    assert not other.is_running()
