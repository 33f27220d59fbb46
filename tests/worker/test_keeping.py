"""A run is kept: whole checkpoints at every moment, the best among them, changes told, memory."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.jobs.state import FailureKind
from tests.worker.trainer_jobs import Inputs, events, make_inputs, series, write_job
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.stopping import Stop

pytestmark = pytest.mark.xdist_group("keeping")  # what it trains first serves all

RISING = "validation_rising"
CONFIG: dict[str, Any] = {
    "adapter": {"rank": 4, "alpha": 8},
    "training": {
        "learning_rate": 0.02,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "max_steps": 6,
        "max_length": 128,
        "packing": False,
    },
    "evaluation": {"every_steps": 3},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"), count=40)


def train(folder: Path) -> Path:
    import torch

    from worker.trainer.attempt import read_job
    from worker.trainer.recipes import sft

    torch.set_num_threads(1)
    emitter = Emitter(folder)
    try:
        sft.train(read_job(folder), folder=folder, emitter=emitter, stop=Stop(folder))
    finally:
        emitter.close()
    return folder


def job(folder: Path, inputs: Inputs, **training: Any) -> Path:
    config = {**CONFIG, "training": {**CONFIG["training"], **training}}
    return write_job(folder, config, model=inputs.model, dataset=inputs.dataset)


def alerts(folder: Path) -> dict[str, str]:
    return {e["values"]["code"]: e["values"]["text"] for e in events(folder, "alert")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Path:
    """A run without disturbance."""
    return train(job(tmp_path_factory.mktemp("whole"), inputs))


def test_the_same_spec_and_seed_have_the_same_losses_bit_for_bit(
    tmp_path: Path, whole: Path, inputs: Inputs
) -> None:
    again = train(job(tmp_path, inputs))
    for name in ("train/loss", "train/grad_norm", "eval/loss"):
        assert series(again, name) == series(whole, name)


@pytest.mark.parametrize("batch", [1, 8])
def test_however_a_step_falls_into_batches_its_loss_is_the_same(
    tmp_path: Path, whole: Path, inputs: Inputs, batch: int
) -> None:
    other = train(job(tmp_path, inputs, batch_size=batch, gradient_accumulation=8 // batch))
    for name in ("train/loss", "train/grad_norm"):
        expected = series(whole, name)
        near = {step: pytest.approx(value, rel=1e-4) for step, value in expected.items()}
        assert series(other, name) == near


def test_out_of_memory_halves_the_batch_once_and_trains_the_same(
    tmp_path: Path, whole: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_memory(monkeypatch, most=2)
    folder = train(job(tmp_path, inputs))
    assert "batches of 2 instead of 4" in alerts(folder)["out_of_memory"]
    expected = series(whole, "train/loss")
    assert series(folder, "train/loss") == {
        step: pytest.approx(loss, rel=1e-4) for step, loss in expected.items()
    }


def test_out_of_memory_with_half_the_batch_too_fails(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.trainer.failures import classify

    small_memory(monkeypatch, most=1)
    with pytest.raises(RuntimeError) as caught:
        train(job(tmp_path, inputs))
    assert classify(caught.value) is FailureKind.OUT_OF_MEMORY
    assert "out_of_memory" in alerts(tmp_path)


def small_memory(monkeypatch: pytest.MonkeyPatch, *, most: int) -> None:
    from worker.trainer.recipes import sft

    plain = sft.one_batch

    def one_batch(loaded: Any, some: Any, learned: Any) -> Any:
        if len(some) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(loaded, some, learned)

    monkeypatch.setattr(sft, "one_batch", one_batch)


def test_another_learning_rate_on_resume_takes_effect_and_is_told(
    tmp_path: Path, whole: Path, inputs: Inputs
) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints/step-6")
    train(job(tmp_path, inputs, learning_rate=0.01))
    assert alerts(tmp_path)["settings_changed"] == "From step 4 on: learning_rate 0.02 → 0.01."
    before, now = series(whole, "train/learning_rate"), series(tmp_path, "train/learning_rate")
    assert now == {step: pytest.approx(before[step] / 2) for step in (4, 5, 6)}


def test_going_on_without_a_change_tells_none(tmp_path: Path, whole: Path, inputs: Inputs) -> None:
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints/step-6")
    train(job(tmp_path, inputs))
    assert "settings_changed" not in alerts(tmp_path)
    expected = {step: loss for step, loss in series(whole, "train/loss").items() if step > 3}
    assert series(tmp_path, "train/loss") == expected


@pytest.mark.parametrize("left", [".step-6", ".replaced-step-6"])
def test_killed_while_a_checkpoint_takes_its_name_nothing_is_lost(
    tmp_path: Path, whole: Path, left: str
) -> None:
    from worker.trainer import checkpoints

    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints/step-6").rename(tmp_path / "checkpoints" / left)
    latest = checkpoints.latest(tmp_path)
    assert latest is not None
    assert checkpoints.read(latest)["step"] == 6


def test_a_checkpoint_that_was_half_written_is_not_taken(tmp_path: Path, whole: Path) -> None:
    from worker.trainer import checkpoints

    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    torn = (tmp_path / "checkpoints/step-6").rename(tmp_path / "checkpoints/.step-6")
    (torn / "state.json").unlink()
    latest = checkpoints.latest(tmp_path)
    assert latest is not None
    assert latest.name == "step-3"
    assert not torn.exists()


def test_a_disk_without_room_is_named_before_anything_is_written(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=2**20))
    with pytest.raises(TrainerError, match="1 MiB are free") as caught:
        train(job(tmp_path, inputs))
    assert caught.value.kind is FailureKind.DISK_FULL
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_loss_that_is_no_number_goes_back_once_with_half_the_rate(
    tmp_path: Path, whole: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks_at(monkeypatch, {5})
    train(watched(tmp_path, inputs, "rollback"))
    assert "Back to step 3" in alerts(tmp_path)["rolled_back"]
    before, now = series(whole, "train/learning_rate"), series(tmp_path, "train/learning_rate")
    assert now == {s: pytest.approx(before[s] / (2 if s > 3 else 1)) for s in before}
    assert None not in series(tmp_path, "train/loss").values()


def test_no_number_a_second_time_fails_as_diverged(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks_at(monkeypatch, {5, 6})
    with pytest.raises(TrainerError) as caught:
        train(watched(tmp_path, inputs, "rollback"))
    assert caught.value.kind is FailureKind.DIVERGED
    assert "rolled_back" in alerts(tmp_path)


def watched(folder: Path, inputs: Inputs, wish: str) -> Path:
    config = {**CONFIG, "watch": {"on_trouble": wish}}
    return write_job(folder, config, model=inputs.model, dataset=inputs.dataset)


def breaks_at(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> None:
    """Let the so-manyth steps that are made have no loss."""
    from worker.trainer.recipes import sft

    plain, made = sft.one_step, [0]

    def one_step(*given: Any, **named: Any) -> tuple[float, float]:
        made[0] += 1
        loss, norm = plain(*given, **named)
        return (float("nan") if made[0] in calls else loss), norm

    monkeypatch.setattr(sft, "one_step", one_step)


@pytest.mark.parametrize(("wish", "last"), [("alert", 6), ("stop", 4)])
def test_validation_that_only_gets_worse_is_told_and_ends_the_run_if_it_is_to_stop(
    tmp_path: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, *, wish: str, last: int
) -> None:
    from worker.trainer.recipes import sft

    worse = iter(range(100))
    monkeypatch.setattr(sft, "validation", lambda *_, **__: 1.0 + next(worse))
    config = {
        **CONFIG,
        "watch": {"on_trouble": wish, "rising_validations": 3},
        "evaluation": {"every_steps": 1},
        "checkpoints": {"every_steps": 3},
    }
    train(write_job(tmp_path, config, model=inputs.model, dataset=inputs.dataset))
    assert "3 times in a row, from 2 at step 1 to 5 at step 4" in alerts(tmp_path)[RISING]
    assert max(series(tmp_path, "train/loss")) == last
    if wish == "stop":
        assert "No better validation since step 1" in alerts(tmp_path)["early_stop"]
