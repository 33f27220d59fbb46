"""A preflight as its own process on a CPU: what it measures is what the run then takes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

import pytest

from app.jobs.state import EXIT_CODES, EXIT_DONE, FailureKind
from tests.fixtures import preferences
from tests.fixtures.tiny_model import make_model, write_rows
from tests.worker.trainer_jobs import events, one_thread, run, series, write_job

pytestmark = pytest.mark.xdist_group("preflight")  # what it trains first serves all

CONFIG: dict[str, Any] = {
    "adapter": {"rank": 4, "alpha": 8},
    "training": {
        "learning_rate": 0.01,
        "batch_size": 64,
        "gradient_accumulation": 1,
        "max_steps": 12,
        "max_length": 512,
        "packing": False,
    },
    "evaluation": {"every_steps": 12},
}


class Inputs(TypedDict):
    """What a job is given: a model's folder and a dataset's file."""

    model: Path
    dataset: Path


def long_rows(count: int) -> list[dict[str, Any]]:
    """Return conversations of about 130 to 190 tokens."""
    return [
        {
            "messages": [
                {"role": "user", "content": "The car is red. " * (20 + place % 8) + str(place)},
                {"role": "assistant", "content": "red car"},
            ]
        }
        for place in range(count)
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model": make_model(folder / "model"),
        "dataset": write_rows(folder / "rows.jsonl", long_rows(160)),
    }


def preflight(folder: Path, **ask: Any) -> int:
    """Run a preflight on a job folder; return its exit code."""
    (folder / "ask.json").write_text(json.dumps(ask))
    command = [sys.executable, "-m", "worker.trainer", "preflight", str(folder)]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.run(
            command, stdout=log, stderr=log, env=one_thread(), timeout=300, check=False
        ).returncode


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "preflight.json").read_text())


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Path:
    """A preflight of settings that fit, and then the run itself in the same folder."""
    folder = write_job(tmp_path_factory.mktemp("checked"), CONFIG, **inputs)
    assert preflight(folder, mode="check") == EXIT_DONE, (folder / "log.txt").read_text()
    return folder


def test_what_fits_is_kept_as_it_was_asked_for(checked: Path) -> None:
    found = result(checked)
    assert (found["fits"], found["chosen"], found["changes"]) == (True, 0, {})
    measured = found["trials"][0]["measured"]
    assert measured["steps"] == 12
    assert measured["rows"] == 144
    assert all(0 < loss < 10 for loss in measured["losses"])


def test_the_peak_of_the_run_is_the_one_that_was_measured(checked: Path) -> None:
    before = result(checked)["trials"][0]["measured"]["held_bytes"]
    assert run(checked) == EXIT_DONE
    peak = max(series(checked, "device/memory_used").values())
    assert peak == pytest.approx(before, rel=0.1)


def test_what_does_not_fit_gets_the_smallest_change_that_does(
    tmp_path: Path, inputs: Inputs, checked: Path
) -> None:
    whole = result(checked)["trials"][0]["measured"]["held_bytes"]
    folder = write_job(tmp_path / "job", CONFIG, **inputs)
    assert preflight(folder, mode="check", memory_bytes=int(whole * 0.93)) == EXIT_DONE
    found = result(folder)
    assert not found["fits"]
    *failed, last = found["trials"]
    assert failed
    assert not any(one["measured"]["fits"] for one in failed)
    assert last["measured"]["fits"]
    changes = found["changes"]
    assert changes == last["changes"]
    assert changes["training.batch_size"] * changes["training.gradient_accumulation"] == 64
    tried = [e["values"]["detail"] for e in events(folder, "phase") if "trial" in e["values"]]
    assert tried[:2] == ["the settings as asked", "micro-batch 32 × 2"]


def test_a_search_for_the_least_memory_finds_less_than_was_asked_for(
    tmp_path: Path, inputs: Inputs
) -> None:
    folder = write_job(tmp_path / "job", CONFIG, **inputs)
    assert preflight(folder, mode="small") == EXIT_DONE
    found = result(folder)
    first, best = (found["trials"][at]["measured"]["held_bytes"] for at in (0, found["chosen"]))
    assert best < first
    assert found["changes"]["training.batch_size"] == 1


def test_another_failure_than_memory_keeps_its_name(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    rows = write_rows(tmp_path / "rows.jsonl", long_rows(4))
    (model / "model.safetensors").unlink()
    folder = write_job(tmp_path / "job", CONFIG, model=model, dataset=rows)
    code = preflight(folder, mode="check")
    assert code == EXIT_CODES[FailureKind.MODEL_UNAVAILABLE]
    assert "safetensors" in events(folder, "failure")[-1]["values"]["evidence"]
    assert not (folder / "preflight.json").exists()


def test_a_preflight_that_is_told_to_stop_leaves_no_try_behind(
    tmp_path: Path, inputs: Inputs
) -> None:
    import psutil

    folder = write_job(tmp_path / "job", CONFIG, **inputs)
    (folder / "ask.json").write_text('{"mode": "check"}')
    (folder / "stop.json").write_text('{"mode": "cancel"}')
    command = [sys.executable, "-m", "worker.trainer", "preflight", str(folder)]
    process = subprocess.Popen(command, env=one_thread())
    try:
        while not (tries := psutil.Process(process.pid).children()):
            assert process.poll() is None
        process.terminate()
        assert process.wait(timeout=60) == 4
        assert not any(one.is_running() for one in tries)
    finally:
        process.kill()


SMALL: dict[str, Any] = {
    **CONFIG,
    "training": {**CONFIG["training"], "max_steps": 4},
    "checkpoints": {"every_steps": 2},
}


@pytest.fixture(scope="module")
def room(checked: Path) -> int:
    """Bytes in which a micro-batch of 64 does not fit and one of 16 does."""
    return int(result(checked)["trials"][0]["measured"]["held_bytes"] * 0.9)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs, room: int) -> Path:
    config = {**SMALL, "fit": "automatic"}
    folder = write_job(tmp_path_factory.mktemp("fitted"), config, **inputs)
    (folder / "ask.json").write_text(json.dumps({"memory_bytes": room}))
    assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()
    return folder


def test_the_run_trains_with_the_change_and_says_so(fitted: Path) -> None:
    alerts = {e["values"]["code"]: e["values"]["text"] for e in events(fitted, "alert")}
    applied = result(fitted)["applied"]
    assert f"micro-batch {applied['training.batch_size']} × " in alerts["fitted"]
    phases = [event["values"]["phase"] for event in events(fitted, "phase")]
    assert phases.index("trying") < phases.index("tried") < phases.index("loading")
    assert sorted(series(fitted, "train/loss")) == [1, 2, 3, 4]


def test_a_later_attempt_has_the_same_settings_and_tries_nothing_again(fitted: Path) -> None:
    before = len(events(fitted))
    assert run(fitted) == EXIT_DONE
    after = events(fitted)[before:]
    assert not any(event["values"].get("phase") == "trying" for event in after)
    assert not any(event["values"].get("code") == "checkpoint_does_not_fit" for event in after)


def test_a_check_ends_the_run_and_names_the_change(
    tmp_path: Path, inputs: Inputs, room: int
) -> None:
    folder = write_job(tmp_path / "job", {**SMALL, "fit": "check"}, **inputs)
    (folder / "ask.json").write_text(json.dumps({"memory_bytes": room}))
    assert run(folder) == EXIT_CODES[FailureKind.OUT_OF_MEMORY]
    failure = events(folder, "failure")[-1]["values"]
    assert failure["changes"] == result(folder)["changes"] != {}
    assert not series(folder, "train/loss")


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto", "reward"])
def test_preferences_are_tried_by_the_steps_that_they_will_make(
    tmp_path: Path, inputs: Inputs, objective: str
) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", preferences.pairs(60))
    training = {**CONFIG["training"], "batch_size": 4, "gradient_accumulation": 2, "max_steps": 12}
    config = {**CONFIG, "objective": objective, "training": training, "fit": "check"}
    folder = write_job(
        tmp_path / "job", config, model=inputs["model"], dataset=pairs, form="preference"
    )
    assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()
    (trial,) = result(folder)["trials"]
    measured, losses = trial["measured"], series(folder, "train/loss")
    assert measured["fits"]
    assert measured["steps"] == len(losses) == 12
    assert 0 < measured["step_seconds"] < measured["seconds"]
    # Two steps of the heaviest batch come before the run's own.
    assert measured["losses"][2] == pytest.approx(losses[1], rel=0.5)
    assert len(measured["losses"]) == 14
