"""A model with a head of one output instead of a vocabulary: it gives a text a number.

It is Transformers' own for sequence classification, so that others load what is saved. Knows
neither examples nor steps.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
)
from transformers.utils import logging

from app.jobs.state import FailureKind
from worker.trainer.failures import TrainerError

HEAD = "score"  # Transformers' name of it
_STD = 0.02  # of a new head's weights


def read(folder: Path, *, seed: int, **how: Any) -> Any:
    """Return the model of a folder with a head for one number, new where the folder has none.

    ``how`` is what ``from_pretrained`` takes. A family that Transformers knows no such head for is
    a ``model_unavailable`` failure.
    """
    config = AutoConfig.from_pretrained(folder, num_labels=1, trust_remote_code=False)
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        text = f"Transformers has no reward model for {config.model_type}; choose another model"
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text)
    stored = getattr(config, "quantization_config", None)
    if stored is not None:  # a folder in 4 bits names what stays whole
        stored["llm_int8_skip_modules"] = [*(stored.get("llm_int8_skip_modules") or []), HEAD]
    model, told = _quietly(
        AutoModelForSequenceClassification.from_pretrained,
        folder,
        config=config,
        output_loading_info=True,
        **how,
    )
    if any(name.startswith(f"{HEAD}.") for name in told["missing_keys"]):
        weight = getattr(model, HEAD).weight
        draw = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        weight.data.copy_(draw * _STD)
    return model


def _quietly(load: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Load without the warning that the head is new: it is meant to be."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return load(*given, **named)
    finally:
        logging.set_verbosity(before)


def is_valuing(model: Any) -> bool:
    """Tell whether a model gives texts numbers."""
    return hasattr(bare_of(model), HEAD)


def reader(model: Any) -> Any:
    """Return the part that reads a text, without the head."""
    bare = bare_of(model)
    return getattr(bare, bare.base_model_prefix)


def settle_pad(model: Any, pad: int) -> None:
    """Give a model the token that fills up a batch, if it knows none: it is where texts end."""
    config = bare_of(model).config.get_text_config()
    if config.pad_token_id is None:
        config.pad_token_id = pad


def end_of(model: Any, ids: Sequence[int]) -> int:
    """Return the place at which a text's value is read: its last token that fills up no batch.

    That is how Transformers finds it. Where padding is by the token that ends a turn, it is the
    one before.
    """
    pad = bare_of(model).config.get_text_config().pad_token_id
    return next((at for at in range(len(ids) - 1, 0, -1) if ids[at] != pad), 0)


def value(model: Any, states: torch.Tensor) -> torch.Tensor:
    """Return what the reader's states at texts' ends are worth: (texts, width) → (texts,).

    In 32 bits, or close values would be the same.
    """
    weight = getattr(bare_of(model), HEAD).weight
    return (states.float() @ weight.float().T).squeeze(-1)


def bare_of(model: Any) -> Any:
    """Return Transformers' own model, without PEFT's around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
