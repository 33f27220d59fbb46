"""Answers that are worth more become likelier, by TRL's loss; the run goes on where it was."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.jobs.state import EXIT_DONE, FailureKind
from app.runs.spec import RunConfig, TrainerJob
from tests.fixtures.tiny_model import make_model, rows, write_rows
from tests.worker.trainer_jobs import StopAfter, events, run, series, train_here, write_job
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.stopping import Stopped

pytestmark = pytest.mark.xdist_group("grpo")  # what it trains first serves all

STEPS = 15
CONFIG: dict[str, Any] = {
    "objective": "grpo",
    "adapter": {"rank": 8, "alpha": 16},
    "training": {
        "learning_rate": 0.02,
        "batch_size": 8,
        "gradient_accumulation": 4,
        "max_steps": STEPS,
        "max_length": 128,
        "packing": False,
    },
    "sampling": {"max_completion_length": 8, "beta": 0.01},
    "rewards": {"exact_match": 0, "regex": 1, "pattern": "[aeiou]", "length": 0.5},
    "evaluation": {"every_steps": 5},
    "checkpoints": {"every_steps": 4},
}


class Inputs(NamedTuple):
    model: Path
    dataset: Path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    return Inputs(make_model(folder / "model"), write_rows(folder / "rows.jsonl", rows(60)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Path:
    """An undisturbed run, as its own process."""
    folder = write_job(tmp_path_factory.mktemp("whole"), CONFIG, **inputs._asdict())
    assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()
    return folder


def test_answers_come_to_be_worth_more(whole: Path) -> None:
    reward = series(whole, "train/reward")
    assert sorted(reward) == list(range(1, STEPS + 1))
    first, last = (sum(reward[step] for step in some) for some in (range(1, 4), range(13, 16)))
    assert last > first + 0.3
    assert series(whole, "eval/reward")[STEPS] > series(whole, "eval/reward")[0]
    assert series(whole, "eval/loss")[STEPS] == -series(whole, "eval/reward")[STEPS]


def test_it_tells_the_curves_that_belong_to_it_by_their_usual_names(whole: Path) -> None:
    told = {name for event in events(whole, "metrics") for name in event["values"]}
    for name in (
        "loss",
        "kl",
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "rewards/regex/mean",
        "rewards/length/mean",
        "completions/mean_length",
        "completions/clipped_ratio",
    ):
        assert f"train/{name}" in told
    assert {"eval/reward", "eval/rewards/regex/mean", "eval/completions/mean_length"} <= told
    assert series(whole, "train/kl")[1] == pytest.approx(0, abs=1e-6)
    assert max(series(whole, "train/completions/mean_length").values()) <= 8


def test_base_is_measured_against_tuned(whole: Path) -> None:
    report = json.loads((whole / "report.json").read_text())
    assert report["n"] == 6
    assert (whole / "adapter" / "adapter_model.safetensors").is_file()


def test_paused_it_goes_on_with_the_answers_it_would_have_given(
    tmp_path: Path, whole: Path, inputs: Inputs
) -> None:
    folder = write_job(tmp_path, CONFIG, **inputs._asdict())
    (folder / "stop.json").write_text('{"mode": "pause"}')
    with pytest.raises(Stopped):
        train_here(folder, StopAfter(folder, 6))
    train_here(folder)
    for name in ("train/loss", "train/reward", "train/grad_norm", "eval/reward"):
        assert series(folder, name) == series(whole, name), name


def test_prompts_without_room_for_an_answer_are_left_out_and_that_is_said(
    tmp_path: Path, inputs: Inputs
) -> None:
    plan = {**CONFIG["training"], "max_steps": 1}
    config = {**CONFIG, "training": plan, "sampling": {"max_completion_length": 96}}
    folder = write_job(tmp_path, config, **inputs._asdict())
    train_here(folder)
    texts = [event["values"]["text"] for event in events(folder, "alert")]
    assert any("have more than 32 tokens before the answer" in text for text in texts)


def test_a_dataset_of_such_prompts_alone_is_a_bad_one(tmp_path: Path, inputs: Inputs) -> None:
    config = {**CONFIG, "sampling": {"max_completion_length": 120}}
    folder = write_job(tmp_path, config, **inputs._asdict())
    with pytest.raises(TrainerError, match="a prompt of at most 8 tokens") as caught:
        train_here(folder)
    assert caught.value.kind is FailureKind.BAD_DATASET


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> tuple[Any, list[Any]]:
    """A loaded model whose adapter does something, and answers that it gave."""
    import torch

    from worker.trainer.generating import ends_of
    from worker.trainer.loading import load
    from worker.trainer.prompting import prepare_prompts
    from worker.trainer.recipes import grpo

    torch.set_num_threads(1)
    folder = write_job(tmp_path_factory.mktemp("job"), CONFIG, **inputs._asdict())
    job = TrainerJob.model_validate_json((folder / "spec.json").read_bytes())
    loaded = load(job)
    torch.manual_seed(0)
    for name, weight in loaded.trainable().items():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    data = prepare_prompts(job, loaded.tokenizer, Emitter(folder))
    ends = ends_of(loaded, data.learned)
    return loaded, grpo.try_out(loaded, data.rows[:3], job.run.config, ends=ends)


def test_an_advantage_is_the_distance_from_the_mean_of_its_group(tried: tuple[Any, Any]) -> None:
    import torch

    _, answers = tried
    rewards = torch.tensor([one.reward for one in answers]).view(3, 8)
    wanted = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
    assert [one.advantage for one in answers] == pytest.approx(wanted.flatten().tolist(), abs=1e-4)
    assert len({one.encoded.line for one in answers[:8]}) == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("beta", "temperature"), [(0.0, 1.0), (0.3, 0.7)])
def test_the_loss_is_that_of_trl(
    tmp_path: Path, tried: tuple[Any, Any], beta: float, temperature: float
) -> None:
    import torch
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from worker.trainer.likelihoods import before_training, of_tokens
    from worker.trainer.recipes import grpo

    loaded, answers = tried
    settings: dict[str, Any] = {"beta": beta, "temperature": temperature}
    trainer = GRPOTrainer(
        model=loaded.model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            loss_type="dapo",
            **settings,
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 8),
        processing_class=loaded.tokenizer,
    )
    loaded.model.eval()
    width = max(len(one.encoded) - one.encoded.trained for one in answers)
    longest = max(one.encoded.trained for one in answers)

    def table(of_one: Any, size: int, *, left: bool) -> Any:
        filled = []
        for one in answers:
            row = of_one(one.encoded)
            rest = [0] * (size - len(row))
            filled.append([*rest, *row] if left else [*row, *rest])
        return torch.tensor(filled)

    def before(encoded: Any) -> list[float]:
        with before_training(loaded):
            return of_tokens(loaded, [encoded], temperature=temperature).logps.tolist()

    batch = {
        "prompt_ids": table(lambda one: one.ids[: -one.trained], width, left=True),
        "prompt_mask": table(lambda one: [1] * (len(one) - one.trained), width, left=True),
        "completion_ids": table(lambda one: one.ids[-one.trained :], longest, left=False),
        "completion_mask": table(lambda one: [1] * one.trained, longest, left=False),
        "ref_per_token_logps": table(before, longest, left=False),
        "advantages": torch.tensor([one.advantage for one in answers]),
        "num_items_in_batch": torch.tensor(sum(one.encoded.trained for one in answers)),
    }
    with torch.no_grad():
        theirs = trainer._compute_loss(loaded.model, batch).item()
        config = RunConfig.model_validate({**CONFIG, "sampling": settings})
        ours = grpo.one_batch(loaded, answers, config) / batch["num_items_in_batch"]
    assert ours[0].item() == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    if beta:
        assert ours[1].item() == pytest.approx(trainer._metrics["eval"]["kl"][-1], rel=1e-4)
        assert ours[1].item() > 0


def test_small_batches_have_the_gradients_of_large_ones(tried: tuple[Any, Any]) -> None:
    import torch

    from worker.trainer.recipes import grpo

    loaded, answers = tried
    config = RunConfig.model_validate(CONFIG)
    still = torch.optim.SGD(loaded.trainable().values(), lr=0.0)
    (one, norm), (other, other_norm) = (
        grpo.one_step(loaded, still, answers, config, batch=size) for size in (3, 24)
    )
    assert norm == pytest.approx(other_norm, rel=1e-4)
    assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert norm > 0
