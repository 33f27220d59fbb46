"""A reward model learns which answer is better, by every family, as TRL's own; others load it."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.jobs.state import EXIT_DONE, FailureKind
from tests.fixtures.tiny_families import make_family
from tests.worker.preference_jobs import CONFIG, STEPS, Inputs, job, make_preferences, read
from tests.worker.trainer_jobs import StopAfter, events, run, series, train_here, write_job
from worker.trainer.emitter import Silent
from worker.trainer.failures import TrainerError
from worker.trainer.stopping import Stopped

pytestmark = [
    pytest.mark.xdist_group("reward_model"),  # one model and one run serve all
    # PEFT looks for its own pattern of fused experts among modules, where they are none
    pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_preferences(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Path:
    """An undisturbed run, as its own process."""
    folder = job(tmp_path_factory.mktemp("whole"), inputs, "reward")
    assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()
    return folder


def plain(base: Path, adapter: Path | None = None) -> Any:
    """Load what was trained as others do."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def value(model: Any, base: Path, prompt: list[dict[str, str]], answer: str) -> float:
    """Return what a model finds an answer worth, by its own forward pass."""
    import torch
    from transformers import AutoTokenizer

    whole = [*prompt, {"role": "assistant", "content": answer}]
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = tokenizer.apply_chat_template(whole, return_dict=False)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits.item()


def items(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]


def row_of(folder: Path, line: int) -> dict[str, Any]:
    return json.loads(Path(read(folder).dataset_file).read_text().splitlines()[line - 1])


class TestRun:
    def test_the_better_answers_become_worth_more(self, whole: Path) -> None:
        loss, accuracy = series(whole, "eval/loss"), series(whole, "eval/accuracy")
        assert sorted(series(whole, "train/loss")) == list(range(1, STEPS + 1))
        assert loss[0] == pytest.approx(0.693, abs=0.05)  # a new head knows nothing
        assert loss[STEPS] < 0.6 * loss[0]
        assert accuracy[STEPS] > 0.8

    def test_it_tells_trls_curves(self, whole: Path) -> None:
        told = {name for event in events(whole, "metrics") for name in event["values"]}
        for name in ("accuracy", "margin", "min_reward", "mean_reward", "max_reward"):
            assert {f"train/{name}", f"eval/{name}"} <= told

    def test_the_evaluation_says_how_often_the_better_answer_is_picked(self, whole: Path) -> None:
        report, found = json.loads((whole / "report.json").read_text()), items(whole)
        accuracy = report["metrics"]["reward_accuracy"]
        assert report["n"] == accuracy["n"] == len(found) > 0
        assert accuracy["tuned"]["value"] > max(0.8, accuracy["base"]["value"])
        assert report["metrics"]["reward_margin"]["tuned"]["value"] > 0.2
        for item in found:
            row = row_of(whole, item["line"])
            assert item["expected"] == row["chosen"]
            for who in ("base", "tuned"):
                scores = item[f"{who}_scores"]
                picked = "chosen" if scores["reward_margin"] > 0 else "rejected"
                assert item[f"{who}_output"].strip() == row[picked].strip()
                assert scores["reward_accuracy"] == (picked == "chosen")

    def test_plain_peft_finds_the_same_worth(self, whole: Path, inputs: Inputs) -> None:
        model = plain(inputs.model, whole / "adapter")
        for item in items(whole)[:4]:
            row = row_of(whole, item["line"])
            better, worse = (
                value(model, inputs.model, item["prompt"], row[side])
                for side in ("chosen", "rejected")
            )
            assert better - worse == pytest.approx(item["tuned_scores"]["reward_margin"], rel=1e-4)

    def test_paused_it_goes_on_as_if_nothing_had_happened(
        self, tmp_path: Path, whole: Path, inputs: Inputs
    ) -> None:
        folder = job(tmp_path, inputs, "reward")
        (folder / "stop.json").write_text('{"mode": "pause"}')
        with pytest.raises(Stopped):
            train_here(folder, StopAfter(folder, 6))
        train_here(folder)
        for name in ("train/loss", "train/grad_norm", "eval/loss", "eval/margin"):
            assert series(folder, name) == series(whole, name), name
        assert items(folder) == items(whole)

    def test_all_weights_can_be_trained(self, tmp_path: Path, inputs: Inputs) -> None:
        folder = job(tmp_path, inputs, "reward", max_steps=8)
        spec = json.loads((folder / "spec.json").read_text())
        spec["run"]["config"] |= {"method": "full"}
        (folder / "spec.json").write_text(json.dumps(spec))
        train_here(folder)
        assert series(folder, "eval/loss")[8] < 0.9 * series(folder, "eval/loss")[0]
        model, item = plain(folder / "model"), items(folder)[0]
        row = row_of(folder, item["line"])
        better, worse = (
            value(model, inputs.model, item["prompt"], row[side]) for side in ("chosen", "rejected")
        )
        assert better - worse == pytest.approx(item["tuned_scores"]["reward_margin"], rel=1e-4)
        assert model.config.get_text_config().pad_token_id is not None  # or batches have no end


@pytest.mark.filterwarnings("ignore")
class TestAgainstTrl:
    def test_loss_and_figures(self, tmp_path: Path, inputs: Inputs, whole: Path) -> None:
        import torch
        from datasets import Dataset
        from trl.trainer.reward_config import RewardConfig
        from trl.trainer.reward_trainer import RewardTrainer

        from worker.trainer import packing
        from worker.trainer.loading import load
        from worker.trainer.pairing import prepare_pairs
        from worker.trainer.recipes import reward

        torch.set_num_threads(1)
        spec = read(whole)
        loaded, pairs = load(spec), prepare_pairs(spec, Silent()).rows[:8]
        optimizer = torch.optim.AdamW(loaded.trainable().values(), lr=0.02)
        for _ in range(3):
            reward.one_step(loaded, optimizer, pairs, spec.run.config, batch=4)
        loaded.model.eval()
        trainer = RewardTrainer(
            model=loaded.model,
            args=RewardConfig(
                output_dir=str(tmp_path),
                report_to="none",
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
            ),
            train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2),
            processing_class=loaded.tokenizer,
        )
        both = [one.chosen for one in pairs] + [one.rejected for one in pairs]
        batch = packing.padded(packing.alone(both), pad=loaded.pad)
        del batch["labels"]
        theirs: Any = trainer.compute_loss(loaded.model, batch)
        told = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
        ours = dict(
            zip(reward.FIGURES, (reward.one_batch(loaded, pairs) / 8).tolist(), strict=True)
        )
        assert ours["loss"] == pytest.approx(theirs.item(), rel=1e-5)
        for name in ("accuracy", "margin", "mean_reward"):  # theirs are extremes of a whole batch
            assert ours[name] == pytest.approx(told[name], rel=1e-4), name
        assert told["min_reward"] <= ours["min_reward"] <= ours["max_reward"] <= told["max_reward"]

    def test_a_step_is_the_same_in_parts(self, inputs: Inputs, whole: Path) -> None:
        import torch

        from worker.trainer.loading import load
        from worker.trainer.pairing import prepare_pairs
        from worker.trainer.recipes import reward

        spec = read(whole)
        pairs = prepare_pairs(spec, Silent()).rows[:8]
        found = []
        for batch in (1, 3, 8):
            loaded = load(spec)
            optimizer = torch.optim.SGD(loaded.trainable().values(), lr=0.0)
            found.append(reward.one_step(loaded, optimizer, pairs, spec.run.config, batch=batch))
        for figures, norm in found[1:]:
            assert norm == pytest.approx(found[0][1], rel=1e-5)
            assert figures == pytest.approx(found[0][0], rel=1e-5)


@pytest.mark.parametrize("family", ["qwen3", "mistral", "gemma2", "gemma3", "mixtral"])
def test_each_family_learns_it_and_is_saved_as_plain_peft_loads_it(
    tmp_path: Path, inputs: Inputs, family: str
) -> None:
    model = make_family(tmp_path / "model", family)
    training = {
        **CONFIG["training"],
        "max_steps": 2,
        "batch_size": 2,
        "gradient_accumulation": 2,
    }
    config = {**CONFIG, "objective": "reward", "training": training}
    folder = write_job(
        tmp_path / "job", config, model=model, dataset=inputs.pairs, form="preference"
    )
    train_here(folder)
    assert sorted(series(folder, "train/loss")) == [1, 2]
    tuned, item = plain(model, folder / "adapter"), items(folder)[0]
    row = row_of(folder, item["line"])
    better, worse = (
        value(tuned, model, item["prompt"], row[side]) for side in ("chosen", "rejected")
    )
    assert better - worse == pytest.approx(
        item["tuned_scores"]["reward_margin"], rel=1e-3, abs=1e-5
    )


def test_a_family_without_such_a_head_is_named(tmp_path: Path, inputs: Inputs) -> None:
    import transformers

    model = make_family(tmp_path / "model", "llama")
    transformers.OlmoeConfig(hidden_size=32, num_hidden_layers=1).save_pretrained(model)
    folder = write_job(
        tmp_path / "job",
        {**CONFIG, "objective": "reward"},
        model=model,
        dataset=inputs.pairs,
        form="preference",
    )
    with pytest.raises(TrainerError, match="no reward model for olmoe; choose another") as one:
        train_here(folder)
    assert one.value.kind is FailureKind.MODEL_UNAVAILABLE


@pytest.mark.parametrize(
    ("pad", "place"), [(0, 3), (9, 2), (None, 3)], ids=["apart", "the end of a turn", "none known"]
)
def test_the_value_is_read_where_transformers_reads_it(pad: int | None, place: int) -> None:
    from types import SimpleNamespace

    from transformers import LlamaConfig

    from worker.trainer import heads

    model = SimpleNamespace(config=LlamaConfig(pad_token_id=pad))
    heads.settle_pad(model, 0)
    assert heads.end_of(model, [5, 9, 6, 9]) == place
