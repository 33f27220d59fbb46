"""What is trained of a base model: an adapter beside it, its embeddings, or all of it.

Attaches by PEFT, by which Unsloth attaches too. Knows the methods' mathematics, not how a model is
read or a step is made. What a user asks for and a model lacks is a ``model_unavailable`` failure
that names it.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open

from app.basemodels.facts import shape_of
from app.jobs.state import FailureKind
from app.runs import engines
from app.runs.spec import Adapter, RunConfig
from worker.trainer import heads
from worker.trainer.failures import TrainerError

ALL_LINEAR = "all-linear"
_EXPERTS_NDIM = 3  # the weights of a layer's experts lie in one tensor
_SHOWN = 20


def attach(model: Any, config: RunConfig, *, folder: Path, tokens: int) -> Any:
    """Return the model with what is trained set to be trained; it gets rows for ``tokens`` tokens.

    Added rows begin near the mean of the others.
    """
    rows = model.get_input_embeddings().num_embeddings
    if tokens > rows:
        model.resize_token_embeddings(tokens)
    if config.method == "full":
        model.requires_grad_(requires_grad=True)
        return model
    embeds = engines.trains_embeddings(config, tokens=tokens, rows=rows)
    if tokens > rows and not embeds:
        text = (
            f"the tokenizer has {tokens - rows} tokens that the model has no rows for; "
            "set adapter.train_embeddings to auto"
        )
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)
    whole = embedding_names(model) if embeds else []
    with warnings.catch_warnings():
        # PEFT gives fused experts twice the rank by a pattern, and looks for it among modules only
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys", RuntimeWarning)
        model = get_peft_model(model, lora(config.adapter, model, whole=whole))
    if config.adapter.init == "loftq":
        begin_by_loftq(model, folder)
    return model


def lora(adapter: Adapter, model: Any, *, whole: list[str]) -> LoraConfig:
    """Return the adapter's PEFT configuration; modules in ``whole`` are trained as they are."""
    modules, experts = targets(model, adapter.target_modules)
    if experts or (modules == ALL_LINEAR and has_experts(model)):
        require_plain(adapter)
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=modules,
        target_parameters=experts or None,
        modules_to_save=whole or None,
        ensure_weight_tying=len(whole) == 1 and is_tied(model),
        use_dora=adapter.use_dora,
        use_rslora=adapter.use_rslora,
        init_lora_weights="pissa" if adapter.init == "pissa" else True,
        bias="none",
        task_type="SEQ_CLS" if heads.is_valuing(model) else "CAUSAL_LM",
    )


def targets(model: Any, wanted: str | tuple[str, ...]) -> tuple[str | list[str], list[str]]:
    """Return the modules that get an adapter, and the tensors of experts that get one.

    Raises if the model has nothing of a name: an adapter on less than was asked for is no success.
    """
    if wanted == ALL_LINEAR:
        return ALL_LINEAR, []
    layers = {name.rpartition(".")[2] for name, one in model.named_modules() if _is_linear(one)}
    experts = {
        name.rpartition(".")[2]
        for name, one in model.named_parameters()
        if one.ndim == _EXPERTS_NDIM
    }
    chosen = [wanted] if isinstance(wanted, str) else list(wanted)
    missing = [name for name in chosen if name.rpartition(".")[2] not in layers | experts]
    if missing:
        known = ", ".join(sorted(layers | experts)[:_SHOWN])
        text = f"the model has no layer {', '.join(missing)}; its layers are {known}"
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)
    modules = [name for name in chosen if name.rpartition(".")[2] in layers]
    return modules, [name for name in chosen if name not in modules]


def has_experts(model: Any) -> bool:
    """Tell whether the model is a mixture of experts; 4 bits hide that they lie in one tensor."""
    return shape_of(model.config.get_text_config().to_dict()).experts > 0


def require_plain(adapter: Adapter) -> None:
    """Refuse what PEFT does not do for experts."""
    if adapter.use_dora or adapter.init != "default" or adapter.dropout > 0:
        text = (
            "DoRA, PiSSA, LoftQ and dropout cannot be had on experts, which lie in one tensor; "
            "name the layers of attention in adapter.target_modules"
        )
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)


def _is_linear(module: Any) -> bool:
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def embedding_names(model: Any) -> list[str]:
    """Return the names of the embeddings and, unless it is the same tensor, of the head."""
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    wanted = [inputs] if head is None or is_tied(model) else [inputs, head]
    return [name for name, one in model.named_modules() if any(one is each for each in wanted)]


def is_tied(model: Any) -> bool:
    """Tell whether the head is the table of embeddings."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


@torch.no_grad()
def begin_by_loftq(model: Any, folder: Path) -> None:
    """Start the adapter from what 4 bits lose (LoftQ, Li et al. 2023, one iteration).

    The frozen weights stay as bitsandbytes quantizes them, so the adapter fits any QLoRA of this
    base model. Unlike PEFT's own it divides by the adapter's scale.
    """
    import bitsandbytes

    layers = [
        (name.removeprefix("base_model.model."), one)
        for name, one in model.named_modules()
        if hasattr(one, "lora_A") and hasattr(one.get_base_layer().weight, "quant_state")
    ]
    for name, layer in layers:
        stored = layer.get_base_layer().weight
        original = _original(folder, f"{name}.weight").to(stored.device, torch.float32)
        kept = bitsandbytes.functional.dequantize_4bit(stored.data, stored.quant_state)
        first, second = low_rank(original - kept.float(), rank=layer.r["default"])
        layer.lora_A["default"].weight.copy_(first)
        layer.lora_B["default"].weight.copy_(second / layer.scaling["default"])


def low_rank(lost: torch.Tensor, *, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A and B of so many ranks whose product BA is nearest to ``lost``."""
    left, sizes, right = torch.linalg.svd(lost, full_matrices=False)
    root = sizes[:rank].sqrt()
    return root[:, None] * right[:rank], left[:, :rank] * root


def _original(folder: Path, name: str) -> torch.Tensor:
    for path in _files(folder, name):
        with safe_open(path, framework="pt") as file:
            known = set(file.keys())
            for stored in (name, name.removeprefix("model.")):
                if stored in known:
                    return file.get_tensor(stored)
    text = f"{folder.name} has no tensor {name}, which LoftQ compares with its 4 bits"
    raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)


def _files(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files that may hold a tensor, the one that the index names first."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = json.loads(index.read_bytes())["weight_map"].get(name)
        if named and "/" not in named:
            yield folder / named
    yield from sorted(folder.glob("*.safetensors"))


def as_difference(
    weights: Mapping[str, torch.Tensor], begun: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return a PiSSA adapter as one on the published weights: BA - B₀A₀, at twice the rank.

    ``weights`` are named as a file has them, ``begun`` as the model has them.
    """
    found = dict(weights)
    for name, tensor in weights.items():
        start = begun.get(name.replace(".weight", ".default.weight"))
        if start is None:
            continue
        start = start.detach().to(tensor)
        if ".lora_A." in name:
            found[name] = torch.cat([tensor, start], dim=0)
        elif ".lora_B." in name:
            found[name] = torch.cat([tensor, -start], dim=1)
    return found


def doubled(config: LoraConfig) -> LoraConfig:
    """Make a PiSSA adapter's configuration fit its difference: twice the rank, the same scale."""
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    config.r *= 2
    config.lora_alpha = scale * config.r
    config.use_rslora, config.init_lora_weights = False, True
    return config
