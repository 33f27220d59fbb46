"""The base model with what is trained of it, and its tokenizer, loaded by the engine that runs.

Loads local folders only, safetensors only, never a repository's code. Which engine it is decides
``app.runs.engines``, what a method trains ``adapters``. Knows nothing of data or steps. What cannot
be loaded is a ``model_unavailable`` failure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import prepare_model_for_kbit_training
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from app.basemodels.facts import Shape, shape_of
from app.jobs.state import FailureKind
from app.runs import engines
from app.runs.objectives import KINDS
from app.runs.spec import RunConfig, TrainerJob
from worker.trainer import adapters, determinism, heads, packing
from worker.trainer.failures import TrainerError, classify
from worker.trainer.forming import Form, form_of

Weights = Mapping[str, torch.Tensor]


@dataclass
class Loaded:
    """A model ready to train."""

    model: Any
    tokenizer: Any
    device: str
    engine: str
    pad: int
    dtype: torch.dtype
    form: Form
    why: str = ""  # this engine
    is_full: bool = False  # every weight is trained, there is no adapter
    begun: Callable[[], Weights] | None = None  # trained weights at the start, where they say more

    def collate(self, rows: Sequence[packing.Row]) -> dict[str, Any]:
        """Make a batch of rows, in the form that keeps this model's examples apart."""
        return self.form.collate(rows)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Return the parameters that are trained, by name, in the model's order."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def autocast(self) -> torch.autocast:
        """Return the context in which a forward pass runs; adapters on a CPU need none.

        Weights that are trained themselves are kept in 32 bits and computed with in 16.
        """
        mixed = self.device == "cuda" or self.is_full
        return torch.autocast(
            self.device, dtype=torch.bfloat16, enabled=mixed and self.dtype == torch.bfloat16
        )

    @contextmanager
    def untrained(self) -> Iterator[None]:
        """Make the model what it was before training, for as long as the context lasts.

        Switching an adapter off is not enough where it began with a part of the frozen weights, or
        where there is none.
        """
        if self.begun is None:
            with self.model.disable_adapter():
                yield
            return
        trained = {name: parameter.data for name, parameter in self.trainable().items()}
        begun = self.begun()
        try:
            self._put(begun)
            yield
        finally:
            self._put(trained)

    def _put(self, weights: Weights) -> None:
        for name, parameter in self.trainable().items():
            parameter.data = weights[name].to(parameter.device, parameter.dtype)


def engine_of(config: RunConfig, device: str, *, added: int, shape: Shape) -> engines.Choice:
    """Return which engine trains, of a model that lacks rows for ``added`` tokens."""
    if not added or config.method == "full":
        return engines.choose(config, device_kind=device, shape=shape)
    adapter = config.adapter.model_copy(update={"train_embeddings": True})
    changed = config.model_copy(update={"adapter": adapter})
    choice = engines.choose(changed, device_kind=device, shape=shape)
    why = f"The tokenizer has {added} tokens that the model has no rows for. {choice.reason}"
    return engines.Choice(choice.engine, why)


def load(job: TrainerJob) -> Loaded:
    """Load model and tokenizer as the job asks, with what is trained set to be trained."""
    config, folder = job.run.config, Path(job.base_model_folder)
    check_folder(folder)
    check_bits(config, job.device)
    determinism.settle(config)
    dtype = precision(config, job.device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        told = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
        rows, tokens = table_rows(folder, tokenizer, rows=told.vocab_size)
        shape = shape_of(told.to_dict())
        choice = engine_of(config, job.device, added=tokens - rows, shape=shape)
        if choice.engine == engines.UNSLOTH:
            model = with_unsloth(folder, config, dtype=dtype)
        else:
            model = with_peft(folder, config, device=job.device, dtype=dtype, tokens=tokens)
        begun = first_weights(model, config, lambda: _bare(job, dtype, tokens))
    except Exception as error:
        kind = classify(error)
        if kind is not FailureKind.INTERNAL:
            raise
        text = f"{folder.name} cannot be loaded: {type(error).__name__}: {error}"
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text) from error
    pad = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    if heads.is_valuing(model):
        heads.settle_pad(model, pad)
    form = form_of(model, engine=choice.engine, pad=pad, device=job.device)
    add_noise(model, config.training.neftune_alpha)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        device=job.device,
        engine=choice.engine,
        pad=pad,
        dtype=dtype,
        form=form,
        why=choice.reason,
        is_full=config.method == "full",
        begun=begun,
    )


def table_rows(folder: Path, tokenizer: Any, *, rows: int) -> tuple[int, int]:
    """Return how many tokens the model has ``rows`` for, and how many it needs.

    A tokenizer class may add a token of its own that no text uses: the tokenizer's file decides.
    """
    tokens, file = len(tokenizer), folder / "tokenizer.json"
    if tokens > rows and file.is_file() and Tokenizer.from_file(str(file)).get_vocab_size() <= rows:
        return rows, rows
    return rows, max(tokens, rows)


def check_bits(config: RunConfig, device: str) -> None:
    """Refuse quantized weights where no card computes with them."""
    if config.quantization == "none" or device == engines.CUDA:
        return
    name = {"nf4": "NF4", "int8": "int8"}[config.quantization]
    text = f"{name} needs an NVIDIA card; choose quantization none on this machine"
    raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)


def first_weights(
    model: Any, config: RunConfig, bare: Callable[[], Any]
) -> Callable[[], Weights] | None:
    """Return what gives the trained weights as they are now; None where that says nothing.

    A PiSSA adapter's are kept, since they are small; all weights of a model are read again.
    """
    if config.method == "full":
        return lambda: {name: one.data for name, one in bare().named_parameters()}
    if config.adapter.init != "pissa":
        return None
    kept = {
        name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad
    }
    return lambda: kept


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


def with_peft(
    folder: Path, config: RunConfig, *, device: str, dtype: torch.dtype, tokens: int
) -> Any:
    """Load through transformers and attach by PEFT, or train it all; for ``tokens`` tokens."""
    is_full = config.method == "full"
    model = read(folder, config, device=device, dtype=torch.float32 if is_full else dtype)
    twice = checkpointing(config, device)
    if config.quantization != "none":
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=twice,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    elif twice:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    torch.manual_seed(config.training.seed)  # the first weights of adapter and added tokens
    model = adapters.attach(model, config, folder=folder, tokens=tokens)
    if device == engines.CUDA:
        keep_in_full(model)
    return model


def read(folder: Path, config: RunConfig, *, device: str, dtype: torch.dtype) -> Any:
    """Return the model as its folder has it, frozen or not."""
    how: dict[str, Any] = {
        "dtype": dtype,
        "device_map": {"": 0} if device == engines.CUDA else None,
        "quantization_config": quantized(config.quantization, dtype),
        "trust_remote_code": False,
        "use_safetensors": True,
        "local_files_only": True,
        "attn_implementation": "sdpa",
    }
    if KINDS[config.objective].writes:
        model = AutoModelForCausalLM.from_pretrained(folder, **how)
    else:
        model = heads.read(folder, seed=config.training.seed, **how)
    return model.to(device) if device == engines.MPS else model


def _bare(job: TrainerJob, dtype: torch.dtype, tokens: int) -> Any:
    """Return a full fine-tuning's model as it was before the first step."""
    with torch.random.fork_rng():
        config, folder = job.run.config, Path(job.base_model_folder)
        plain = config.model_copy(
            update={
                "training": config.training.model_copy(update={"gradient_checkpointing": False})
            }
        )
        return with_peft(folder, plain, device=job.device, dtype=dtype, tokens=tokens)


def quantized(kind: str, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """Return how bitsandbytes keeps the frozen weights; heads stay whole."""
    if kind == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if kind == "int8" else None


def keep_in_full(model: Any) -> None:
    """Keep trained weights in 32 bits: small updates would be lost in 16."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def with_unsloth(folder: Path, config: RunConfig, *, dtype: torch.dtype) -> Any:
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
        target_modules=sorted(engines.UNSLOTH_MODULES) if isinstance(chosen, str) else list(chosen),
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
