"""Preferences are learned by every family, go on bit for bit, and fail by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.jobs.state import EXIT_DONE, FailureKind
from app.runs.spec import Objective
from tests.fixtures.preferences import judged, pairs
from tests.fixtures.tiny_families import make_family
from tests.fixtures.tiny_model import rows, write_rows
from tests.worker.preference_jobs import (
    CONFIG,
    OBJECTIVES,
    STEPS,
    Inputs,
    job,
    make_preferences,
    read,
)
from tests.worker.trainer_jobs import StopAfter, events, run, series, train_here, write_job
from worker.trainer.emitter import Silent
from worker.trainer.failures import TrainerError
from worker.trainer.stopping import Leave, Stopped

pytestmark = [
    pytest.mark.xdist_group("preferences"),  # one model and three runs serve all
    # PEFT looks for its own pattern of fused experts among modules, where they are none
    pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_preferences(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module", params=OBJECTIVES)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, inputs: Inputs
) -> Path:
    """An undisturbed run of each objective, as its own process."""
    folder = job(tmp_path_factory.mktemp(request.param), inputs, request.param)
    assert run(folder) == EXIT_DONE, (folder / "log.txt").read_text()
    return folder


def objective_of(folder: Path) -> str:
    return read(folder).run.config.objective.value


class TestRun:
    def test_the_better_answers_gain(self, whole: Path) -> None:
        loss, margins = series(whole, "eval/loss"), series(whole, "eval/rewards/margins")
        assert sorted(series(whole, "train/loss")) == list(range(1, STEPS + 1))
        assert loss[STEPS] < 0.9 * loss[0]
        assert margins[STEPS] > margins[0] + 0.05

    def test_it_tells_the_curves_that_belong_to_it_by_their_usual_names(self, whole: Path) -> None:
        told = {name for event in events(whole, "metrics") for name in event["values"]}
        common = {"loss", "rewards/chosen", "rewards/rejected", "rewards/margins"}
        own = {
            "dpo": {"rewards/accuracies", "logps/chosen"},
            "orpo": {"rewards/accuracies", "nll_loss", "log_odds_ratio", "log_odds_chosen"},
            "kto": {"kl", "logps/rejected"},
        }[objective_of(whole)]
        for name in common | own:
            assert {f"train/{name}", f"eval/{name}"} <= told

    def test_before_training_nothing_is_gained(self, whole: Path) -> None:
        if objective_of(whole) == "orpo":  # it asks no model from before
            assert series(whole, "eval/rewards/chosen")[0] < -0.1
            return
        assert series(whole, "eval/rewards/chosen")[0] == pytest.approx(0, abs=1e-5)
        start = {"dpo": 0.6931, "kto": 0.5}[objective_of(whole)]
        assert series(whole, "eval/loss")[0] == pytest.approx(start, abs=1e-4)

    def test_the_evaluation_says_how_often_the_better_answer_is_the_likelier_one(
        self, whole: Path
    ) -> None:
        report = json.loads((whole / "report.json").read_text())
        items = [json.loads(line) for line in (whole / "items.jsonl").read_text().splitlines()]
        assert report["n"] == len(items) > 0
        found = report["metrics"].get("preference_accuracy")
        if objective_of(whole) == "kto":
            assert found is None  # no row has both answers
            return
        assert found["n"] == len(items)
        assert found["tuned"]["value"] > found["base"]["value"]
        line = items[0]["line"]
        row = json.loads(
            whole.joinpath(read(whole).dataset_file).read_text().splitlines()[line - 1]
        )
        assert items[0]["expected"] == row["chosen"]
        assert items[0]["prompt"] == [{"role": "user", "content": row["prompt"]}]

    def test_its_adapter_loads_in_plain_peft_with_the_likelihoods_it_told(
        self, whole: Path, inputs: Inputs
    ) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        base = AutoModelForCausalLM.from_pretrained(inputs.model)
        tuned = PeftModel.from_pretrained(base, whole / "adapter").eval()
        tokenizer = AutoTokenizer.from_pretrained(inputs.model)
        for line in (whole / "items.jsonl").read_text().splitlines()[:3]:
            item = json.loads(line)
            asked = tokenizer.apply_chat_template(
                item["prompt"], add_generation_prompt=True, return_dict=False
            )
            answer = tokenizer(item["expected"] + "<|im_end|>")["input_ids"]
            with torch.no_grad():
                logits = tuned(torch.tensor([asked + answer])).logits[0, len(asked) - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(answer)).item()
            assert loss == pytest.approx(item["tuned_scores"]["loss"], rel=1e-4)

    def test_paused_it_goes_on_as_if_nothing_had_happened(
        self, tmp_path: Path, whole: Path, inputs: Inputs
    ) -> None:
        folder = job(tmp_path, inputs, objective_of(whole))
        (folder / "stop.json").write_text('{"mode": "pause"}')
        with pytest.raises(Stopped) as stopped:
            train_here(folder, StopAfter(folder, 6))
        assert stopped.value.mode is Leave.PAUSE
        train_here(folder)
        for name in ("train/loss", "train/grad_norm", "eval/loss", "eval/rewards/margins"):
            assert series(folder, name) == series(whole, name), name


class TestData:
    def of(self, tmp_path: Path, inputs: Inputs, rows: list[dict[str, Any]], objective: str) -> Any:
        from worker.trainer.pairing import prepare_judged, prepare_pairs

        dataset = write_rows(tmp_path / "rows.jsonl", rows)
        spec = read(job(tmp_path / "job", inputs, objective, dataset=dataset))
        prepare = prepare_judged if objective == "kto" else prepare_pairs
        return prepare(spec, Silent())

    def test_pairs_of_one_prompt_are_held_out_together(
        self, tmp_path: Path, inputs: Inputs
    ) -> None:
        all_pairs = pairs(60)
        data = self.of(tmp_path, inputs, all_pairs, "dpo")
        asked = {all_pairs[one.chosen.line - 1]["prompt"] for one in data.validation}
        trained = {all_pairs[one.chosen.line - 1]["prompt"] for one in data.rows}
        assert asked
        assert not asked & trained
        assert len(data.rows) + len(data.validation) == 60

    def test_kto_takes_both_answers_of_a_pair(self, tmp_path: Path, inputs: Inputs) -> None:
        data = self.of(tmp_path, inputs, [*pairs(10), *judged(10)], "kto")
        assert len(data.rows) + len(data.validation) == 30
        kinds = [one.is_good for one in [*data.rows, *data.validation]]
        assert sum(kinds) == 10 + sum(row["label"] for row in judged(10))

    def test_a_labelled_answer_is_no_pair(self, tmp_path: Path, inputs: Inputs) -> None:
        with pytest.raises(
            TrainerError, match=r"line 6 has one answer .* train it with kto"
        ) as one:
            self.of(tmp_path, inputs, [*pairs(5), *judged(3)], "dpo")
        assert one.value.kind is FailureKind.BAD_DATASET

    def test_conversations_are_no_preferences(self, tmp_path: Path, inputs: Inputs) -> None:
        dataset = write_rows(tmp_path / "rows.jsonl", rows(5))
        config = {**CONFIG, "objective": "dpo"}
        folder = write_job(tmp_path / "job", config, model=inputs.model, dataset=dataset)
        with pytest.raises(TrainerError, match="line 1 is no row of preference") as one:
            train_here(folder)
        assert one.value.kind is FailureKind.BAD_DATASET

    def test_pairs_that_are_all_too_long_say_so(self, tmp_path: Path, inputs: Inputs) -> None:
        long = [{**row, "prompt": "x " * 200} for row in pairs(4)]
        with pytest.raises(TrainerError, match=r"none of the 4 rows has pairs .* 128 tokens"):
            self.of(tmp_path, inputs, long, "dpo")

    def test_a_conversation_before_the_answers_is_read_only(
        self, tmp_path: Path, inputs: Inputs
    ) -> None:
        from transformers import AutoTokenizer

        before = [
            {"role": "user", "content": "The car is red."},
            {"role": "assistant", "content": "red car"},
            {"role": "user", "content": "The boat is blue."},
        ]
        rows = [
            {
                "chosen": [*before, {"role": "assistant", "content": "blue boat"}],
                "rejected": [*before, {"role": "assistant", "content": text}],
            }
            for text in ("red boat", "green boat", "black boat")
        ]
        data = self.of(tmp_path, inputs, rows, "orpo")
        tokenizer = AutoTokenizer.from_pretrained(inputs.model)
        for pair in [*data.rows, *data.validation]:
            learned = [label for label in pair.chosen.labels if label >= 0]
            assert tokenizer.decode(learned) == "blue boat<|im_end|>"
            assert "red car<|im_end|>" in tokenizer.decode(pair.chosen.ids)


def test_there_is_a_recipe_for_each_objective() -> None:
    import importlib

    for objective in Objective:
        recipe = importlib.import_module(f"worker.trainer.recipes.{objective.value}")
        assert callable(recipe.train)


FEW: dict[str, Any] = {"max_steps": 2, "batch_size": 2, "gradient_accumulation": 2}


@pytest.mark.parametrize("family", ["qwen3", "mistral", "gemma2", "gemma3", "mixtral"])
@pytest.mark.parametrize("objective", [*OBJECTIVES, "grpo"])
def test_each_family_learns_by_it_and_is_saved_as_plain_peft_loads_it(
    tmp_path: Path, inputs: Inputs, objective: str, family: str
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = make_family(tmp_path / "model", family)
    config = {
        **CONFIG,
        "objective": objective,
        "training": {**CONFIG["training"], **FEW},
        "data": {"validation_fraction": 0},
    }
    rows_of, form = inputs.of(objective), "preference"
    if objective == "grpo":
        config["sampling"] = {"num_generations": 2, "max_completion_length": 4}
        config["rewards"] = {"exact_match": 0, "length": 1, "fewest_words": 3}
        rows_of, form = write_rows(tmp_path / "rows.jsonl", rows(8)), "messages"
    folder = write_job(tmp_path / "job", config, model=model, dataset=rows_of, form=form)
    train_here(folder)
    losses = series(folder, "train/loss")
    assert sorted(losses) == [1, 2]
    assert all(abs(loss) < 20 for loss in losses.values())
    plain = AutoModelForCausalLM.from_pretrained(model)
    tuned = PeftModel.from_pretrained(plain, folder / "adapter").eval()
    ids = torch.arange(3, 43).reshape(2, 20)
    with torch.no_grad():
        after = tuned(ids).logits
        with tuned.disable_adapter():
            before = tuned(ids).logits
    assert not torch.equal(after, before) or objective == "grpo"
