"""Each method on each family: it trains, and what it saves means the same to plain PEFT."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.jobs.state import FailureKind
from app.runs.spec import TrainerJob
from tests.fixtures.tiny_families import FAMILIES, SPARE, make_family
from tests.fixtures.tiny_model import rows, write_rows
from tests.worker.trainer_jobs import write_job
from worker.trainer.failures import TrainerError

MIXTURES = ("mixtral", "qwen3_moe")
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
METHODS: Mapping[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"adapter": {"use_rslora": True}},
    "lora_plus": {"adapter": {"lora_plus_ratio": 16}},
    "dora": {"adapter": {"use_dora": True, "target_modules": ATTENTION}},
    "pissa": {"adapter": {"init": "pissa", "target_modules": ATTENTION}},
    "pissa_rslora": {"adapter": {"init": "pissa", "use_rslora": True, "target_modules": ATTENTION}},
    "chosen": {"adapter": {"target_modules": ["q_proj", "v_proj"]}},
    "embeddings": {"adapter": {"train_embeddings": True}},
    "full": {"method": "full"},
}
EXACT, NEAR = 0.0, 5e-5  # PiSSA's products are summed up in another order
STEPS = 3
# PEFT looks for its own pattern of fused experts among modules, where they are none
pytestmark = pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")


class Trained:
    """A model after a few steps of the recipe's own step."""

    def __init__(self, folder: Path, model: Path, config: Mapping[str, Any]) -> None:
        import torch

        from worker.trainer.emitter import Emitter
        from worker.trainer.loading import load
        from worker.trainer.optimizing import build_optimizer
        from worker.trainer.preparing import prepare
        from worker.trainer.recipes.sft import one_step

        torch.set_num_threads(1)
        folder.mkdir(parents=True, exist_ok=True)
        dataset = write_rows(folder / "rows.jsonl", rows(24))
        training = {"learning_rate": 0.01, "batch_size": 4, "max_length": 128}
        adapter = {"rank": 4, "alpha": 8, **config.get("adapter", {})}
        whole = {**config, "training": training, "adapter": adapter}
        if config.get("method") == "full":
            del whole["adapter"]
        self.folder = write_job(folder / "job", whole, model=model, dataset=dataset)
        self.job = TrainerJob.model_validate_json((self.folder / "spec.json").read_bytes())
        emitter = Emitter(self.folder)
        self.loaded = load(self.job)
        self.before = logits(self.loaded.model)
        data = prepare(self.job, emitter)
        emitter.close()
        self.optimizer = build_optimizer(self.loaded, self.job.run.config)
        for step in range(STEPS):
            chosen = data.rows[4 * step : 4 * step + 4]
            one_step(self.loaded, self.optimizer, chosen, self.job.run.config)
        self.after = logits(self.loaded.model)

    def saved(self) -> Path:
        """Save the result; return its folder."""
        from worker.trainer.weights import save_result

        return save_result(self.folder, self.loaded, base_model="mdl_tiny")


def logits(model: Any) -> Any:
    import torch

    model.eval()
    ids = torch.arange(3, 43).reshape(2, 20)
    with torch.no_grad():
        return model(input_ids=ids).logits


def reloaded(base: Path, result: Path) -> Any:
    """Load a result as anybody would, with plain PEFT or Transformers alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if (result / "config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(result, **kernel(result))
    model: Any = AutoModelForCausalLM.from_pretrained(base, **kernel(base))
    if (result / "tokenizer.json").is_file():
        tokens = len(AutoTokenizer.from_pretrained(result))
        if tokens > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(tokens)
    return PeftModel.from_pretrained(model, result)


def kernel(folder: Path) -> dict[str, str]:
    """Return how a model is to attend: SDPA would drop a cap on its scores."""
    capped = json.loads((folder / "config.json").read_text()).get("attn_logit_softcapping")
    return {"attn_implementation": "eager"} if capped else {}


def nearness(family: str, method: str) -> float:
    """Return how near logits must come that are sums in another order, or the same."""
    return NEAR if "pissa" in method or family == "gemma2" else EXACT


def apart(one: Any, other: Any) -> float:
    return (one - other).abs().max().item()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {family: make_family(folder / family, family) for family in FAMILIES}
    return {**made, "tied": make_family(folder / "tied", "llama", tied=True)}


def published(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return logits(AutoModelForCausalLM.from_pretrained(folder, **kernel(folder)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", [*FAMILIES, "tied"])
def test_what_is_saved_has_the_same_logits_in_plain_peft(
    tmp_path: Path, models: dict[str, Path], family: str, method: str
) -> None:
    trained = Trained(tmp_path, models[family], METHODS[method])
    original, near = published(models[family]), nearness(family, method)

    assert apart(trained.before, original) <= near
    assert apart(trained.after, original) > 0.01
    assert apart(logits(reloaded(models[family], trained.saved())), trained.after) <= near
    with trained.loaded.untrained():
        assert apart(logits(trained.loaded.model), original) <= near
    assert apart(logits(trained.loaded.model), trained.after) == EXACT


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_puts_back_what_was_trained(
    tmp_path: Path, models: dict[str, Path], method: str
) -> None:
    from worker.trainer import weights
    from worker.trainer.loading import load

    trained = Trained(tmp_path, models["tied"], METHODS[method])
    weights.save(tmp_path / "kept", trained.loaded)
    again = load(trained.job)
    weights.load(tmp_path / "kept", again)

    assert apart(logits(again.model), trained.after) == EXACT


@pytest.mark.parametrize("family", ["llama", "tied"])
def test_a_result_names_no_path_of_this_machine(
    tmp_path: Path, models: dict[str, Path], family: str
) -> None:
    for method in ("full", "embeddings", "pissa"):
        trained = Trained(tmp_path / method, models[family], METHODS[method])
        for path in trained.saved().glob("*.json"):
            assert str(models[family]) not in path.read_text(), path.name


def test_a_pissa_adapter_is_saved_as_plain_lora_of_twice_the_rank(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    trained = Trained(tmp_path, models["llama"], METHODS["pissa"])
    written = json.loads((trained.saved() / "adapter_config.json").read_text())

    assert (written["r"], written["init_lora_weights"]) == (8, True)
    assert written["lora_alpha"] / written["r"] == 8 / 4


@pytest.mark.parametrize("tied", [False, True])
def test_tokens_without_rows_get_some_which_are_trained_and_saved(
    tmp_path: Path, *, tied: bool
) -> None:
    from tests.fixtures.tiny_model import make_tokenizer

    lacking = len(make_tokenizer()) - 2
    model = make_family(tmp_path / "model", "llama", rows=lacking, tied=tied)
    trained = Trained(tmp_path, model, {})

    assert trained.loaded.model.get_input_embeddings().weight.shape[0] == lacking + 2
    assert "2 tokens that the model has no rows for" in trained.loaded.why
    assert apart(logits(reloaded(model, trained.saved())), trained.after) == EXACT


def test_tokens_without_rows_are_refused_where_embeddings_are_not_to_be_trained(
    tmp_path: Path,
) -> None:
    model = make_family(tmp_path / "model", "llama", rows=200)
    with pytest.raises(TrainerError, match=r"set adapter\.train_embeddings to auto") as caught:
        Trained(tmp_path, model, {"adapter": {"train_embeddings": False}})
    assert caught.value.kind is FailureKind.MODEL_UNAVAILABLE


def test_a_token_that_only_a_tokenizers_class_adds_changes_no_model(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    from tests.fixtures.tiny_model import make_tokenizer

    tokens = len(make_tokenizer())  # Qwen2's class adds one
    model = make_family(tmp_path / "model", "qwen2", rows=tokens)
    trained = Trained(tmp_path, model, {})

    assert trained.loaded.model.get_input_embeddings().num_embeddings == tokens
    assert "lora" in " ".join(trained.loaded.trainable())
    assert SPARE + tokens == len(published(models["qwen2"])[0, 0])


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("adapter", [{"use_dora": True}, {"init": "pissa"}, {"dropout": 0.1}])
def test_what_peft_does_not_do_for_experts_is_refused_with_a_sentence(
    tmp_path: Path, models: dict[str, Path], family: str, adapter: dict[str, Any]
) -> None:
    with pytest.raises(TrainerError, match="cannot be had on experts") as caught:
        Trained(tmp_path, models[family], {"adapter": adapter})
    assert caught.value.kind is FailureKind.MODEL_UNAVAILABLE


@pytest.mark.parametrize("family", MIXTURES)
def test_experts_can_be_chosen_by_name(
    tmp_path: Path, models: dict[str, Path], family: str
) -> None:
    chosen = {"adapter": {"target_modules": ["q_proj", "gate_up_proj"]}}
    trained = Trained(tmp_path, models[family], chosen)

    names = " ".join(trained.loaded.trainable())
    assert "experts" in names
    assert "k_proj" not in names
    assert apart(logits(reloaded(models[family], trained.saved())), trained.after) == EXACT


def test_a_layer_that_the_model_has_not_is_named_and_so_are_those_it_has(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    chosen = {"adapter": {"target_modules": ["q_proj", "c_attn"]}}
    with pytest.raises(TrainerError, match=r"no layer c_attn; its layers are down_proj, .*v_proj"):
        Trained(tmp_path, models["llama"], chosen)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantized_weights_are_refused_without_a_card(
    tmp_path: Path, models: dict[str, Path], quantization: str
) -> None:
    with pytest.raises(TrainerError, match="needs an NVIDIA card"):
        Trained(tmp_path, models["llama"], {"quantization": quantization})


def test_lora_plus_groups_weights_as_pefts_own_optimizer_does(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    import torch
    from peft.optimizers import create_loraplus_optimizer

    from worker.trainer.optimizing import set_rate

    config = {"adapter": {"lora_plus_ratio": 16, "use_dora": True}}
    trained = Trained(tmp_path, models["llama"], config)
    theirs = create_loraplus_optimizer(
        trained.loaded.model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16
    )
    set_rate(trained.optimizer, 1e-3)

    assert rates(trained.optimizer) == rates(theirs)
    assert set(rates(theirs).values()) == {1e-3, 16e-3}


def rates(optimizer: Any) -> dict[int, float]:
    """Return each trained tensor's learning rate."""
    return {
        id(weight): round(group["lr"], 9)
        for group in optimizer.param_groups
        for weight in group["params"]
    }


def test_with_a_ratio_of_one_lora_plus_is_plain_lora(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    plain = Trained(tmp_path / "plain", models["llama"], {})
    one = Trained(tmp_path / "one", models["llama"], {"adapter": {"lora_plus_ratio": 1}})
    fast = Trained(tmp_path / "fast", models["llama"], METHODS["lora_plus"])

    assert apart(plain.after, one.after) == EXACT
    assert apart(plain.after, fast.after) > 0.01


def test_loftqs_product_is_nearest_to_what_was_lost() -> None:
    import torch

    from worker.trainer.adapters import low_rank

    torch.manual_seed(0)
    lost = torch.randn(12, 20)
    first, second = low_rank(lost, rank=3)
    sizes = torch.linalg.svdvals(lost)

    assert (first.shape, second.shape) == ((3, 20), (12, 3))
    left = torch.linalg.matrix_norm(lost - second @ first).item()
    assert left == pytest.approx(sizes[3:].norm().item(), rel=1e-5)


def test_a_full_fine_tuning_is_kept_in_32_bits_and_computes_in_16(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    import torch

    from worker.trainer.loading import load

    config = {"method": "full", "training": {"precision": "bfloat16"}}
    folder = write_job(tmp_path, config, model=models["llama"], dataset="none")
    loaded = load(TrainerJob.model_validate_json((folder / "spec.json").read_bytes()))

    assert {one.dtype for one in loaded.trainable().values()} == {torch.float32}
    with loaded.autocast():
        assert logits(loaded.model).dtype is torch.bfloat16
