"""A deterministic run has the same bits twice, says so, and computes by kernels that can."""

from pathlib import Path
from typing import Any

import pytest

from app.runs import engines
from app.runs.spec import RunConfig
from tests.worker.trainer_jobs import Inputs, events, make_inputs, run, series, write_job
from worker.trainer import attempt, determinism

pytestmark = pytest.mark.xdist_group("determinism")  # what it trains first serves all

TRAINING: dict[str, Any] = {
    "learning_rate": 0.02,
    "batch_size": 2,
    "gradient_accumulation": 2,
    "max_steps": 3,
    "max_length": 128,
    "neftune_alpha": 1.0,
    "deterministic": True,
}
ON, OFF = (
    RunConfig.model_validate({"training": {"deterministic": wanted}}) for wanted in (True, False)
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"), count=20)


def trained(folder: Path, inputs: Inputs, **config: Any) -> Path:
    config = {"adapter": {"dropout": 0.1}, "training": TRAINING, **config}
    assert run(write_job(folder, config, model=inputs.model, dataset=inputs.dataset)) == 0
    return folder


def test_two_runs_have_the_same_losses_and_weights_bit_for_bit(
    tmp_path: Path, inputs: Inputs
) -> None:
    one, other = (trained(tmp_path / name, inputs) for name in ("one", "other"))

    for name in ("train/loss", "train/grad_norm", "eval/loss"):
        assert series(one, name) == series(other, name)
    weights = "adapter/adapter_model.safetensors"
    assert (one / weights).read_bytes() == (other / weights).read_bytes()
    assert events(one)[0]["values"]["ran_with"]["computing"] == {"deterministic": "yes"}


def test_torch_is_told_and_told_otherwise_by_the_next_run() -> None:
    import torch

    for config, wanted in ((ON, True), (OFF, False)):
        determinism.settle(config)
        assert torch.are_deterministic_algorithms_enabled() is wanted
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic is wanted


def test_cublas_is_told_before_cuda_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, str] = {}
    monkeypatch.setattr(attempt.os, "environ", kept)
    attempt.prepare_environment(OFF)
    assert "CUBLAS_WORKSPACE_CONFIG" not in kept
    attempt.prepare_environment(ON)
    assert kept["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_unsloth_leaves_it_to_peft_and_the_reason_is_told() -> None:
    choice = engines.choose(ON, device_kind="cuda")
    assert (choice.engine, "the same bits twice" in choice.reason) == ("peft", True)
    named = ON.model_copy(update={"engine": "unsloth"})
    assert "use auto or peft" in engines.refusals(named, device_kind="cuda")["engine"]
