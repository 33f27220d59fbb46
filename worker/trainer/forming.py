"""In which form a model takes its batches: without padding wherever it keeps examples apart.

Not known of a family but tried on the model itself, once, before its first step: a model that mixes
examples of a row (one whose layers carry a state along, for instance) gets a padded row for each.
Knows neither data nor steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from worker.trainer import apart, heads, packing
from worker.trainer.data import IGNORED, Encoded

Collate = Callable[[Sequence[packing.Row]], dict[str, Any]]


@dataclass(frozen=True)
class Form:
    """How batches are made, and what is told of it."""

    name: str
    collate: Collate
    said: str


def form_of(model: Any, *, engine: str, pad: int, device: str) -> Form:
    """Return the first form in which the model keeps examples apart; sets how it attends.

    ``model`` is transformers' own, or PEFT's around it.
    """
    mixed = "This model mixes examples that share a row, so each has a row of its own, padded."
    alone = Form("padded", partial(packing.padded, pad=pad), mixed)
    if engine == "unsloth":
        if not apart.keeps_apart(model, _tried(packing.flat, device)):
            return alone
        text = "Batches have no padding; Unsloth keeps their examples apart."
        return Form("flat", packing.flat, text)
    bare = heads.bare_of(model)
    if heads.is_valuing(bare):
        bare = heads.reader(bare)
    before = bare.config._attn_implementation  # noqa: SLF001  # transformers has no other name
    if apart.use(bare) and apart.keeps_apart(bare, _tried(packing.by_lengths, device)):
        text = "Batches have no padding; attention goes by each example's length."
        return Form("by_lengths", packing.by_lengths, text)
    bare.set_attn_implementation(before)
    if apart.keeps_apart(bare, _tried(packing.in_one_row, device)):
        text = "Batches have no padding; a mask keeps their examples apart."
        return Form("in_one_row", packing.in_one_row, text)
    return alone


def _tried(collate: Collate, device: str) -> Callable[[Sequence[Sequence[int]]], dict[str, Any]]:
    """Return a form that takes bare ids, and learns nothing from them."""

    def batch(examples: Sequence[Sequence[int]]) -> dict[str, Any]:
        encoded = [Encoded(0, list(ids), [IGNORED] * len(ids)) for ids in examples]
        made = packing.to_device(collate([encoded]), device)
        del made["labels"]
        return made

    return batch
