"""The base model with an adapter to train, and its tokenizer: PEFT anywhere, Unsloth on NVIDIA.

Loads local folders only, safetensors only, never a repository's code. Knows nothing of data or
steps. What cannot be loaded is a ``model_unavailable`` failure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from app.jobs.state import FailureKind
from app.runs.spec import Adapter, RunConfig, TrainerJob
from worker.trainer import packing
from worker.trainer.failures import TrainerError, classify

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass
class Loaded:
    """A model ready to train."""

    model: Any
    tokenizer: Any
    device: str
    engine: str
    pad: int
    dtype: torch.dtype
    collate: Callable[[Sequence[packing.Row]], dict[str, Any]]

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Return the parameters that are trained, by name, in the model's order."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def autocast(self) -> torch.autocast:
        """Return the context in which a CUDA forward pass runs; on a CPU it changes nothing."""
        return torch.autocast(
            self.device,
            dtype=torch.bfloat16,
            enabled=self.device == "cuda" and self.dtype == torch.bfloat16,
        )


def engine_of(job: TrainerJob) -> str:
    """Return which engine trains: Unsloth needs an NVIDIA card."""
    wanted = job.run.config.engine
    if job.device != "cuda":
        return "peft"
    return "unsloth" if wanted == "auto" else wanted


def load(job: TrainerJob) -> Loaded:
    """Load model and tokenizer as the job asks, adapter attached."""
    config, folder = job.run.config, Path(job.base_model_folder)
    check_folder(folder)
    engine, dtype = engine_of(job), precision(config, job.device)
    if config.quantization == "nf4" and job.device != "cuda":
        text = "NF4 needs an NVIDIA card; choose quantization none on this machine"
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        attach = with_unsloth if engine == "unsloth" else with_peft
        model = attach(folder, config, device=job.device, dtype=dtype)
    except Exception as error:
        kind = classify(error)
        if kind is not FailureKind.INTERNAL:
            raise
        text = f"{folder.name} cannot be loaded: {type(error).__name__}: {error}"
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text) from error
    pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    add_noise(model, config.training.neftune_alpha)
    collate = collation(engine, packing_on=config.training.packing, pad=pad)
    return Loaded(model, tokenizer, job.device, engine, pad, dtype, collate)


def collation(
    engine: str, *, packing_on: bool, pad: int
) -> Callable[[Sequence[packing.Row]], dict[str, Any]]:
    """Return how this engine takes its batches."""
    if engine == "unsloth":
        return packing.flat
    form = packing.packed if packing_on else packing.padded
    return lambda rows: form(rows, pad=pad)


def check_folder(folder: Path) -> None:
    """Refuse a folder that lacks what a model needs, or holds weights of another kind."""
    if not (folder / "config.json").is_file():
        text = f"{folder.name} has no config.json"
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)
    if not any(folder.glob("*.safetensors")):
        text = f"{folder.name} has no safetensors; other kinds of weights are not loaded"
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)


def precision(config: RunConfig, device: str) -> torch.dtype:
    """Return what the frozen weights are computed in."""
    wanted = config.training.precision
    if wanted == "auto":
        fits = device == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fits else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def checkpointing(config: RunConfig, device: str) -> bool:
    """Return whether activations are computed twice to save memory: auto means on a card."""
    wanted = config.training.gradient_checkpointing
    return device == "cuda" if wanted == "auto" else bool(wanted)


def lora(adapter: Adapter) -> LoraConfig:
    """Return the adapter's PEFT configuration."""
    chosen = adapter.target_modules
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=chosen if isinstance(chosen, str) else list(chosen),
        use_dora=adapter.use_dora,
        use_rslora=adapter.use_rslora,
        init_lora_weights="pissa" if adapter.init == "pissa" else True,
        bias="none",
        task_type="CAUSAL_LM",
    )


def with_peft(folder: Path, config: RunConfig, *, device: str, dtype: torch.dtype) -> Any:
    """Load through transformers and attach the adapter by PEFT."""
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": 0} if device == "cuda" else None,
        quantization_config=_nf4(dtype) if config.quantization == "nf4" else None,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        attn_implementation="sdpa",
    )
    twice = checkpointing(config, device)
    if config.quantization == "nf4":
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=twice,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    elif twice:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    torch.manual_seed(config.training.seed)  # the adapter's first weights
    return get_peft_model(model, lora(config.adapter))


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def with_unsloth(folder: Path, config: RunConfig, *, device: str, dtype: torch.dtype) -> Any:  # noqa: ARG001
    """Load and attach through Unsloth; batches come without padding, with their lengths."""
    from unsloth import FastLanguageModel  # refuses to be imported without a card
    from unsloth.utils.hf_packed_attention import (
        enable_hf_packed_attention,
    )
    from unsloth.utils.packing import mark_allow_overlength

    adapter, chosen = config.adapter, config.adapter.target_modules
    model, _ = FastLanguageModel.from_pretrained(
        str(folder),
        max_seq_length=config.training.max_length,
        dtype=dtype,
        load_in_4bit=config.quantization == "nf4",
        local_files_only=True,
        trust_remote_code=False,
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=adapter.rank,
        target_modules=list(ALL_LINEAR if isinstance(chosen, str) else chosen),
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        bias="none",
        use_gradient_checkpointing="unsloth" if checkpointing(config, "cuda") else False,
        random_state=config.training.seed,
        use_dora=adapter.use_dora,
        use_rslora=adapter.use_rslora,
        init_lora_weights="pissa" if adapter.init == "pissa" else True,
    )
    mark_allow_overlength(model)
    enable_hf_packed_attention()
    return model


def add_noise(model: Any, alpha: float | None) -> None:
    """Add NEFTune's noise to the embeddings while training (Jain et al., 2023)."""
    if alpha is None:
        return

    def noisy(module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        size = alpha / (output.shape[-2] * output.shape[-1]) ** 0.5
        return output + torch.empty_like(output).uniform_(-size, size)

    model.get_input_embeddings().register_forward_hook(noisy)
