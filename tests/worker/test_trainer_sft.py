"""The SFT recipe on a tiny model: it learns, goes on bit for bit, stops as asked, fails by name."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

import pytest

from app.jobs.state import EXIT_DONE, FailureKind
from app.runs.exchange.script import script
from app.runs.spec import TrainerJob
from tests.fixtures.tiny_model import make_model, rows, write_rows
from tests.worker.trainer_jobs import (
    StopAfter,
    events,
    one_thread,
    run,
    series,
    start,
    train_here,
    write_job,
)
from worker.trainer.failures import TrainerError
from worker.trainer.stopping import Leave, Stopped

pytestmark = pytest.mark.xdist_group("sft")  # what it trains first serves all

FIGURES = ("train/loss", "train/grad_norm", "train/learning_rate", "train/tokens", "eval/loss")
CONFIG: dict[str, Any] = {
    "adapter": {"rank": 4, "alpha": 8, "dropout": 0.1},
    "training": {
        "learning_rate": 0.02,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "max_steps": 40,
        "max_length": 128,
        "packing": False,
        "neftune_alpha": 1.0,
    },
    "checkpoints": {"every_steps": 7},
}


class Inputs(TypedDict):
    """What a job is given: a model's folder and a dataset's file."""

    model: Path
    dataset: Path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model": make_model(folder / "model"),
        "dataset": write_rows(folder / "rows.jsonl", rows(60)),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Path:
    """An undisturbed run, as its own process."""
    folder = write_job(tmp_path_factory.mktemp("whole"), CONFIG, **inputs)
    assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()
    return folder


def test_the_loss_falls_and_every_step_is_told(whole: Path) -> None:
    losses = series(whole, "train/loss")
    assert sorted(losses) == list(range(1, 41))
    assert losses[40] < 0.7 * losses[1]
    validation = series(whole, "eval/loss")
    assert validation[40] < 0.7 * validation[0]


def test_the_adapter_loads_in_plain_peft_with_the_losses_of_the_report(
    whole: Path, inputs: Inputs
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from worker.trainer.data import encode, read_examples
    from worker.trainer.packing import padded

    base = AutoModelForCausalLM.from_pretrained(inputs["model"])
    tuned = PeftModel.from_pretrained(base, whole / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(inputs["model"])
    examples = {example.line: example for example in read_examples(inputs["dataset"])}
    for line in (whole / "items.jsonl").read_text().splitlines()[:3]:
        item = json.loads(line)
        encoded = encode(tokenizer, examples[item["line"]], assistant_only=True)
        with torch.no_grad():
            loss = tuned(**padded([[encoded]], pad=0)).loss.item()
        assert loss == pytest.approx(item["tuned_scores"]["loss"], rel=1e-5)


def test_the_report_holds_base_and_tuned_with_intervals(whole: Path) -> None:
    report = json.loads((whole / "report.json").read_text())
    items = [json.loads(line) for line in (whole / "items.jsonl").read_text().splitlines()]
    assert report["n"] == len(items) == 6
    assert set(report["metrics"]) == {
        "loss",
        "perplexity",
        "exact_match",
        "token_f1",
        "rouge_l",
    }
    loss = report["metrics"]["loss"]
    assert loss["tuned"]["value"] == pytest.approx(series(whole, "eval/loss")[40], rel=1e-5)
    assert loss["difference"]["high"] < 0
    assert events(whole, "evaluation")[0]["values"]["evaluation"] == report


def test_no_pickle_and_no_path_of_this_machine_is_written(whole: Path) -> None:
    kinds = {path.suffix for path in (whole / "checkpoints").rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors"}
    assert json.loads((whole / "adapter/adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == ("mdl_tiny")


def test_only_the_last_checkpoints_and_the_best_are_kept(whole: Path) -> None:
    kept = {path.name for path in (whole / "checkpoints").iterdir()}
    assert {"step-35", "step-40"} <= kept
    assert len(kept) <= 3


def test_killed_at_a_random_step_it_goes_on_bit_for_bit(
    tmp_path: Path, whole: Path, inputs: Inputs
) -> None:
    folder = write_job(tmp_path, CONFIG, **inputs)
    process = start(folder)
    killed_at = random.randint(8, 30)
    while max(series(folder, "train/loss"), default=0) < killed_at and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    assert process.wait() != EXIT_DONE, "the run was over before it could be killed"
    train_here(folder)
    resumed = [e["step"] for e in events(folder, "phase") if e["values"]["phase"] == "resumed"]
    assert 7 <= resumed[0] < 40
    for name in FIGURES:
        assert series(folder, name) == series(whole, name), (name, killed_at)


def test_the_exported_script_has_the_runs_losses_bit_for_bit(
    tmp_path: Path, whole: Path, inputs: Inputs
) -> None:
    job = TrainerJob.model_validate_json((whole / "spec.json").read_bytes())
    assert script_losses(tmp_path, job, inputs) == run_losses(whole)


def test_the_script_of_a_packed_run_has_its_losses_too(tmp_path: Path, inputs: Inputs) -> None:
    packed = {**CONFIG["training"], "packing": True, "max_steps": 6, "batch_size": 2}
    folder = write_job(tmp_path / "job", {**CONFIG, "training": packed}, **inputs)
    train_here(folder)
    job = TrainerJob.model_validate_json((folder / "spec.json").read_bytes())
    assert script_losses(tmp_path, job, inputs) == run_losses(folder)


def script_losses(folder: Path, job: TrainerJob, inputs: Inputs) -> dict[str, dict[int, Any]]:
    (folder / "run.py").write_text(script(job.run))
    command = [sys.executable, "run.py", str(inputs["model"]), str(inputs["dataset"])]
    out = subprocess.run(
        command, cwd=folder, env=one_thread(), capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, out.stderr[-2000:]
    lines = [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]
    return {
        name: {line["step"]: line[name] for line in lines if name in line}
        for name in ("train/loss", "eval/loss")
    }


def run_losses(folder: Path) -> dict[str, dict[int, Any]]:
    return {name: series(folder, name) for name in ("train/loss", "eval/loss")}


def test_a_paused_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, whole: Path, inputs: Inputs
) -> None:
    folder = write_job(tmp_path, CONFIG, **inputs)
    (folder / "stop.json").write_text('{"mode": "pause"}')
    with pytest.raises(Stopped) as stopped:
        train_here(folder, StopAfter(folder, 12))
    assert stopped.value.mode is Leave.PAUSE
    assert (folder / "checkpoints/step-12").is_dir()
    train_here(folder)
    assert {n: series(folder, n) for n in FIGURES} == {n: series(whole, n) for n in FIGURES}


def test_stopped_and_kept_it_leaves_an_adapter_and_a_summary(
    tmp_path: Path, inputs: Inputs
) -> None:
    folder = write_job(tmp_path, CONFIG, **inputs)
    (folder / "stop.json").write_text('{"mode": "save"}')
    with pytest.raises(Stopped):
        train_here(folder, StopAfter(folder, 5))
    assert (folder / "adapter/adapter_model.safetensors").is_file()
    report = json.loads((folder / "report.json").read_text())
    assert (report["step"], report["n"], report["metrics"]) == (5, 0, {})


def test_a_fresh_start_ignores_checkpoints_and_voids_the_old_curve(
    tmp_path: Path, inputs: Inputs
) -> None:
    short = {**CONFIG["training"], "max_steps": 7}
    folder = write_job(tmp_path, {**CONFIG, "training": short}, **inputs)
    train_here(folder)
    write_job(tmp_path, {**CONFIG, "training": short}, **inputs, fresh=True)
    train_here(folder)
    resumed = [e["step"] for e in events(folder, "phase") if e["values"]["phase"] == "resumed"]
    assert resumed == [0]


def test_a_checkpoint_of_other_settings_is_not_used_and_that_is_said(
    tmp_path: Path, inputs: Inputs
) -> None:
    short = {**CONFIG["training"], "max_steps": 7}
    train_here(write_job(tmp_path, {**CONFIG, "training": short}, **inputs))
    write_job(tmp_path, {**CONFIG, "training": short, "adapter": {"rank": 2}}, **inputs)
    train_here(tmp_path)
    assert events(tmp_path, "alert")[-1]["values"]["code"] == "checkpoint_does_not_fit"


def test_without_a_better_validation_it_stops_and_keeps_the_best(
    tmp_path: Path, inputs: Inputs
) -> None:
    bad = {**CONFIG["training"], "learning_rate": 0.5}
    plan = {"every_steps": 2, "early_stopping_patience": 2}
    folder = write_job(tmp_path, {**CONFIG, "training": bad, "evaluation": plan}, **inputs)
    train_here(folder)
    validation = {s: loss for s, loss in series(folder, "eval/loss").items() if s}
    best_step = min(validation, key=validation.__getitem__)
    assert max(validation) == best_step + 4 < 40
    report = json.loads((folder / "report.json").read_text())
    measured = report["metrics"]["loss"]["tuned"]["value"]
    assert measured == pytest.approx(validation[best_step], rel=1e-5)
    assert report["summary"]["best_step"] == best_step


def test_nothing_held_out_leaves_a_report_without_scores(tmp_path: Path, inputs: Inputs) -> None:
    short = {**CONFIG["training"], "max_steps": 3}
    none = {"validation_fraction": 0}
    folder = write_job(tmp_path, {**CONFIG, "training": short, "data": none}, **inputs)
    train_here(folder)
    report = json.loads((folder / "report.json").read_text())
    assert (report["n"], report["metrics"], series(folder, "eval/loss")) == (0, {}, {})


def test_a_rate_that_is_far_too_high_fails_as_diverged(tmp_path: Path, inputs: Inputs) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "model"
    broken.mkdir()
    for path in inputs["model"].iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    folder = write_job(tmp_path / "job", CONFIG, model=broken, dataset=inputs["dataset"])
    with pytest.raises(TrainerError) as caught:
        train_here(folder)
    assert caught.value.kind is FailureKind.DIVERGED
    assert series(folder, "train/loss") == {1: None}


def test_examples_that_are_all_too_long_fail_as_bad_dataset(tmp_path: Path, inputs: Inputs) -> None:
    turns = [{"role": "user", "content": "x " * 200}, {"role": "assistant", "content": "yes"}]
    dataset = write_rows(tmp_path / "rows", [{"messages": turns}] * 3)
    folder = write_job(tmp_path / "job", CONFIG, model=inputs["model"], dataset=dataset)
    with pytest.raises(TrainerError, match="none of the 2 examples") as caught:
        train_here(folder)
    assert caught.value.kind is FailureKind.BAD_DATASET


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_without_one_of_its_files_is_unavailable(
    tmp_path: Path, inputs: Inputs, missing: str
) -> None:
    partial = tmp_path / "model"
    partial.mkdir()
    for path in inputs["model"].iterdir():
        if path.name != missing:
            (partial / path.name).write_bytes(path.read_bytes())
    folder = write_job(tmp_path / "job", CONFIG, model=partial, dataset=inputs["dataset"])
    with pytest.raises(TrainerError) as caught:
        train_here(folder)
    assert caught.value.kind is FailureKind.MODEL_UNAVAILABLE
