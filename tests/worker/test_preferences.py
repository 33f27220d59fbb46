"""Preferences are learned as papers say and as TRL does, go on bit for bit, and fail by name."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.jobs.state import EXIT_DONE, FailureKind
from app.runs.spec import Objective, Preference, TrainerJob
from tests.fixtures.preferences import judged, pairs
from tests.fixtures.tiny_families import make_family
from tests.fixtures.tiny_model import make_model, rows, write_rows
from tests.worker.trainer_jobs import events, run, series, write_job
from worker.trainer.emitter import Emitter, Silent
from worker.trainer.failures import TrainerError
from worker.trainer.stopping import Leave, Stop, Stopped

pytestmark = [
    pytest.mark.xdist_group("preferences"),  # one model and three runs serve all
    # PEFT looks for its own pattern of fused experts among modules, where they are none
    pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning"),
]

OBJECTIVES = ("dpo", "orpo", "kto")
STEPS = 16
CONFIG: dict[str, Any] = {
    "adapter": {"rank": 4, "alpha": 8},
    "training": {
        "learning_rate": 0.01,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "max_steps": STEPS,
        "max_length": 128,
        "packing": False,
    },
    "checkpoints": {"every_steps": 4},
}


class Inputs(NamedTuple):
    model: Path
    pairs: Path
    judged: Path

    def of(self, objective: str) -> Path:
        return self.judged if objective == "kto" else self.pairs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    return Inputs(
        make_model(folder / "model"),
        write_rows(folder / "pairs.jsonl", pairs(60)),
        write_rows(folder / "judged.jsonl", judged(80)),
    )


def job(
    folder: Path, inputs: Inputs, objective: str, *, dataset: Path | None = None, **training: Any
) -> Path:
    config = {**CONFIG, "objective": objective, "training": {**CONFIG["training"], **training}}
    rows = dataset or inputs.of(objective)
    return write_job(folder, config, model=inputs.model, dataset=rows, form="preference")


def read(folder: Path) -> TrainerJob:
    return TrainerJob.model_validate_json((folder / "spec.json").read_bytes())


def train(folder: Path, stop: Stop | None = None) -> None:
    import importlib

    import torch

    torch.set_num_threads(1)
    spec = read(folder)
    recipe = importlib.import_module(f"worker.trainer.recipes.{spec.run.config.objective.value}")
    emitter = Emitter(folder)
    try:
        recipe.train(spec, folder=folder, emitter=emitter, stop=stop or Stop(folder))
    finally:
        emitter.close()


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
            train(folder, StopAfter(folder, 6))
        assert stopped.value.mode is Leave.PAUSE
        train(folder)
        for name in ("train/loss", "train/grad_norm", "eval/loss", "eval/rewards/margins"):
            assert series(folder, name) == series(whole, name), name


class StopAfter(Stop):
    """Asks for a stop, as SIGTERM would, once a step was told."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder)
        self.step = step

    @property
    def asked(self) -> bool:
        return any(event["step"] == self.step for event in events(self._file.parent, "metrics"))

    @asked.setter
    def asked(self, _value: bool) -> None: ...


class Bench(NamedTuple):
    """A loaded model that has learned a little, and rows of each kind."""

    loaded: Any
    pairs: list[Any]
    judged: list[Any]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> Bench:
    import torch

    from worker.trainer.loading import load
    from worker.trainer.pairing import prepare_judged, prepare_pairs
    from worker.trainer.recipes import orpo

    torch.set_num_threads(1)
    dpo = read(job(tmp_path_factory.mktemp("dpo"), inputs, "dpo"))
    kto = read(job(tmp_path_factory.mktemp("kto"), inputs, "kto"))
    torch.manual_seed(0)
    loaded = load(dpo)
    rows = prepare_pairs(dpo, Silent()).rows[:8]
    optimizer = torch.optim.AdamW(loaded.trainable().values(), lr=0.02)
    for _ in range(6):  # or its answers were those from before
        orpo.one_step(loaded, optimizer, rows, dpo.run.config, batch=8)
    return Bench(loaded, rows, prepare_judged(kto, Silent()).rows[:8])


def padded(answers: Sequence[Any]) -> dict[str, Any]:
    """Return answers as TRL's trainers take them."""
    import torch

    from worker.trainer import packing

    batch = packing.padded(packing.alone(answers), pad=0)
    mask = (batch["labels"] != -100).to(torch.long)
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "completion_mask": mask,
    }


def trainer_of(kind: str, bench: Bench, folder: Path, **settings: Any) -> Any:
    """Return TRL's own trainer around the same model."""
    import trl
    from datasets import Dataset

    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2
    if kind == "KTO":
        rows = [{"prompt": "a", "completion": "b", "label": place > 0} for place in range(2)]
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(folder),
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
        **settings,
    )
    made = getattr(trl, f"{kind}Trainer")(
        model=bench.loaded.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=bench.loaded.tokenizer,
    )
    if "ref" in made.model.peft_config:  # a copy of the adapter as it is now; ours begins at none
        made.model.delete_adapter("ref")
    return made


@pytest.mark.filterwarnings("ignore")
class TestAgainstTrl:
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_dpo(self, tmp_path: Path, bench: Bench, smoothing: float) -> None:
        from worker.trainer.recipes import dpo

        loss_type = "robust" if smoothing else "sigmoid"
        trainer = trainer_of(
            "DPO", bench, tmp_path, beta=0.3, loss_type=loss_type, label_smoothing=smoothing
        )
        both = [one.chosen for one in bench.pairs] + [one.rejected for one in bench.pairs]
        bench.loaded.model.eval()

        theirs = trainer._compute_loss(bench.loaded.model, padded(both), False)
        preference = Preference(beta=0.3, label_smoothing=smoothing)
        ours = dpo.one_batch(bench.loaded, bench.pairs, preference) / len(bench.pairs)

        figures = dict(zip(dpo.FIGURES, ours.tolist(), strict=True))
        assert figures["loss"] == pytest.approx(theirs.item(), rel=1e-5)
        told = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
        for name in dpo.FIGURES[1:]:
            assert figures[name] == pytest.approx(told[name], rel=1e-4), name

    def test_kto(self, tmp_path: Path, inputs: Inputs, bench: Bench) -> None:
        import torch

        from worker.trainer.recipes import kto

        settings = {"desirable_weight": 1.5, "undesirable_weight": 0.5, "beta": 0.2}
        trainer = trainer_of("KTO", bench, tmp_path, **settings)
        answers = [one.answer for one in bench.judged]
        strange = padded(kto.mismatched(answers, most=128))
        batch = {
            **padded(answers),
            **{f"KL_{name}": value for name, value in strange.items()},
            "label": torch.tensor([one.is_good for one in bench.judged]),
        }
        bench.loaded.model.eval()

        theirs = trainer._compute_loss(bench.loaded.model, batch, False)
        config = read(job(tmp_path / "job", inputs, "kto")).run.config
        gained = kto.common_gain(bench.loaded, bench.judged, config, batch=3)
        ours = kto.one_batch(bench.loaded, bench.judged, Preference(**settings), gained=gained)

        figures = kto.told(ours.tolist(), bench.judged, gained)
        assert figures["loss"] == pytest.approx(theirs.item(), rel=1e-5)
        told = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
        assert figures["kl"] == pytest.approx(told["kl"], rel=1e-4)
        assert gained > 0

    def test_orpos_odds(self) -> None:
        import torch
        from trl.experimental.orpo import ORPOTrainer

        from worker.trainer.recipes import orpo

        chosen = torch.tensor([-0.001, -0.5, -3.0, -9.0])
        rejected = torch.tensor([-2.0, -0.6, -0.01, -12.0])

        class Bare:
            beta = 0.1
            accelerator = type("Accelerator", (), {"device": "cpu"})

        losses, *_, ratio, odds = ORPOTrainer.odds_ratio_loss(Bare(), chosen, rejected)  # type: ignore[arg-type]
        ours = orpo.log_odds_ratio(chosen, rejected)
        assert ours.mean().item() == pytest.approx(odds.item(), rel=1e-5)
        logsigmoid = torch.nn.functional.logsigmoid(ours)
        assert logsigmoid.mean().item() == pytest.approx(ratio.item(), rel=1e-5)
        assert (0.1 * logsigmoid).tolist() == pytest.approx(losses.tolist(), rel=1e-5)


class TestLikelihoods:
    def test_they_are_those_of_each_example_alone(self, bench: Bench) -> None:
        import torch

        from worker.trainer.likelihoods import evaluating, likelihoods

        answers = [one.chosen for one in bench.pairs]
        with torch.no_grad(), evaluating(bench.loaded):
            together = likelihoods(bench.loaded, answers)
            alone = [likelihoods(bench.loaded, [one]) for one in answers]
        assert together.sums.tolist() == pytest.approx([one.sums.item() for one in alone], rel=1e-5)
        assert together.counts.tolist() == [one.trained for one in answers]
        assert (together.means < 0).all()

    def test_padded_rows_have_the_same(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        from functools import partial

        import torch

        from worker.trainer import packing
        from worker.trainer.likelihoods import evaluating, likelihoods

        answers = [one.rejected for one in bench.pairs]
        with torch.no_grad(), evaluating(bench.loaded):
            flat = likelihoods(bench.loaded, answers)
            monkeypatch.setattr(
                type(bench.loaded), "collate", lambda _, rows: partial(packing.padded, pad=0)(rows)
            )
            rows = likelihoods(bench.loaded, answers)
        assert rows.sums.tolist() == pytest.approx(flat.sums.tolist(), rel=1e-4)

    def test_only_the_answer_is_learned(self, bench: Bench) -> None:
        for one in bench.pairs:
            text = bench.loaded.tokenizer.decode(
                [label for label in one.chosen.labels if label >= 0]
            )
            assert text.endswith("<|im_end|>")
            assert len(text.removesuffix("<|im_end|>").split()) == 2


STEP: dict[str, Callable[[Bench], Any]] = {
    "dpo": lambda bench: bench.pairs,
    "orpo": lambda bench: bench.pairs,
    "kto": lambda bench: bench.judged,
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_by_eight_has_the_gradients_of_eight_by_one(
    tmp_path: Path, inputs: Inputs, bench: Bench, objective: str
) -> None:
    import importlib

    import torch

    recipe = importlib.import_module(f"worker.trainer.recipes.{objective}")
    config = read(job(tmp_path, inputs, objective)).run.config
    weights = list(bench.loaded.trainable().values())
    still = torch.optim.SGD(weights, lr=0.0)
    some = STEP[objective](bench)
    found = [recipe.one_step(bench.loaded, still, some, config, batch=size) for size in (1, 8)]
    (figures, norm), (others, other_norm) = found
    assert norm == pytest.approx(other_norm, rel=1e-4)
    assert norm > 0
    for name, value in figures.items():
        assert value == pytest.approx(others[name], rel=1e-4, abs=1e-5), name


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
            train(folder)
        assert one.value.kind is FailureKind.BAD_DATASET

    def test_pairs_that_are_all_too_long_say_so(self, tmp_path: Path, inputs: Inputs) -> None:
        long = [{**row, "prompt": "x " * 200} for row in pairs(4)]
        with pytest.raises(TrainerError, match=r"none of the 4 rows has pairs .* 128 tokens"):
            self.of(tmp_path, inputs, long, "dpo")

    def test_a_conversation_before_the_answers_is_read_only(
        self, tmp_path: Path, inputs: Inputs, bench: Bench
    ) -> None:
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
        tokenizer = bench.loaded.tokenizer
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
    train(folder)
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
