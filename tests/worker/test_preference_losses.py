"""Preferences have the losses and the curves of TRL's own trainers, in batches of any size."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.runs.parts import Preference
from tests.worker.preference_jobs import OBJECTIVES, Inputs, job, make_preferences, read
from worker.trainer.emitter import Silent

pytestmark = pytest.mark.xdist_group("preference_losses")  # one model serves all


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_preferences(tmp_path_factory.mktemp("inputs"))


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
