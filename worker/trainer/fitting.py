"""Which change makes a run need less memory: the smallest first, each on top of those before. Pure.

Knows what costs memory, never how much: that is measured by ``trial``. The examples of a step stay
as many, so the first changes learn the same; the length of examples is cut only when nothing else
is left.
"""

from collections.abc import Mapping
from typing import Any

from app.runs import engines
from app.runs.presets import flat, nested
from app.runs.spec import RunConfig
from app.runs.trying import ACCUMULATION, BATCH, CHECKPOINTING, LENGTH, QUANTIZATION

SHORTEST = 64  # tokens; a shorter example says nothing
Changes = dict[str, Any]


def smaller(config: RunConfig, *, device: str) -> Changes | None:
    """Return the next smallest change (dotted field → value) that saves memory, or None."""
    training = config.training
    if training.batch_size > 1:
        return split_batch(config, most=training.batch_size // 2)
    if not recomputes(config, device=device):
        return {CHECKPOINTING: True}
    if device == "cuda" and takes_nf4(config):
        return {QUANTIZATION: "nf4"}
    if training.max_length > SHORTEST:
        return {LENGTH: max(SHORTEST, training.max_length // 2)}
    return None


def split_batch(config: RunConfig, *, most: int) -> Changes:
    """Return the largest micro-batch up to ``most`` with which a step has as many rows."""
    rows = config.training.batch_size * config.training.gradient_accumulation
    size = next(size for size in range(max(1, most), 0, -1) if rows % size == 0)
    return {BATCH: size, ACCUMULATION: rows // size}


def recomputes(config: RunConfig, *, device: str) -> bool:
    """Tell whether activations are computed twice already: ``auto`` means on a card."""
    wanted = config.training.gradient_checkpointing
    return device == "cuda" if wanted == "auto" else bool(wanted)


def takes_nf4(config: RunConfig) -> bool:
    """Tell whether the frozen weights could be kept in 4 bits on a card."""
    if config.quantization == "nf4":
        return False
    return not engines.refusals(applied(config, {QUANTIZATION: "nf4"}), device_kind="cuda")


def applied(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """Return ``config`` with ``changes``."""
    return RunConfig.model_validate(nested({**flat(config), **changes}))
