"""What may be asked of a preflight, in the words that form, API and trainer share. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from app.runs.parts import Part

# The settings that decide how much memory a run takes, and that a preflight may change.
BATCH, ACCUMULATION = "training.batch_size", "training.gradient_accumulation"
CHECKPOINTING = "training.gradient_checkpointing"
LENGTH = "training.max_length"
QUANTIZATION = "quantization"
_BATCHES = {BATCH, ACCUMULATION}


class Mode(StrEnum):
    """What a preflight looks for. ``check``: do the settings fit, and if not, what would."""

    CHECK = "check"
    FAST = "fast"
    BALANCED = "balanced"
    SMALL = "small"


class Ask(Part):
    """``ask.json`` beside a preflight's spec.json.

    ``memory_bytes`` is what the device may give; without it, all that it has.
    """

    mode: Mode = Mode.CHECK
    memory_bytes: int | None = Field(default=None, ge=1)


def worded(changes: Mapping[str, Any]) -> str:
    """Return changes in words, as the log and the alert tell them."""
    parts = [_word(field, value) for field, value in changes.items() if field not in _BATCHES]
    if BATCH in changes:
        parts = [f"micro-batch {changes[BATCH]} × {changes.get(ACCUMULATION, 1)}", *parts]
    return ", ".join(parts) or "the settings as asked"


def _word(field: str, value: Any) -> str:
    words = {
        (CHECKPOINTING, True): "gradient checkpointing on",
        (CHECKPOINTING, False): "gradient checkpointing off",
        (QUANTIZATION, "nf4"): "frozen weights in 4 bits",
        (QUANTIZATION, "none"): "frozen weights in 16 bits",
    }
    if field == LENGTH:
        return f"examples cut at {value:,} tokens"
    return words.get((field, value)) or f"{field.rpartition('.')[2].replace('_', ' ')} {value}"
