"""From encoded examples to batches: one row without padding, or a padded row for each example.

Examples that share a row are kept apart: position ids start again, and no token sees another
example. Which form a model takes is ``forming``'s business, which rows there are ``plan``'s.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from worker.trainer.data import IGNORED, Tokens
from worker.trainer.plan import alone, pack, rows_of_step, steps_in_epoch

__all__ = [
    "alone",
    "by_lengths",
    "count_tokens",
    "count_trained",
    "flat",
    "in_one_row",
    "pack",
    "padded",
    "rows_of_step",
    "steps_in_epoch",
    "to_device",
]

Row = Sequence[Tokens]
LENGTHS = "packed_seq_lengths"  # Unsloth's name


def padded(rows: Sequence[Row], *, pad: int) -> dict[str, Any]:
    """Give each example a row of its own, filled up to the longest."""
    examples = _examples(rows)
    longest = max(len(one) for one in examples)
    return {
        "input_ids": _table([one.ids for one in examples], longest, pad),
        "attention_mask": _table([[1] * len(one) for one in examples], longest, 0),
        "labels": _table([one.labels for one in examples], longest, IGNORED),
    }


def in_one_row(rows: Sequence[Row]) -> dict[str, Any]:
    """Put all examples into one row; transformers masks by the positions that start again."""
    examples = _examples(rows)
    return {
        "input_ids": torch.tensor([[token for one in examples for token in one.ids]]),
        "position_ids": torch.tensor([[at for one in examples for at in range(len(one))]]),
        "labels": torch.tensor([[label for one in examples for label in one.labels]]),
    }


def flat(rows: Sequence[Row]) -> dict[str, Any]:
    """Put all examples into one row, with their lengths as Unsloth takes them."""
    lengths = [len(one) for one in _examples(rows)]
    return {**in_one_row(rows), LENGTHS: torch.tensor(lengths, dtype=torch.int32)}


def by_lengths(rows: Sequence[Row]) -> dict[str, Any]:
    """Put all examples into one row, with their lengths as ``apart`` takes them."""
    lengths = [len(one) for one in _examples(rows)]
    sums = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    return {**in_one_row(rows), "example_lengths": tuple(lengths), "cu_seq_lens_q": sums}


def _examples(rows: Sequence[Row]) -> list[Tokens]:
    return [example for row in rows for example in row]


def _table(rows: Sequence[Sequence[int]], width: int, fill: int) -> torch.Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def to_device(batch: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Move a batch's tensors; lengths stay, for they are read on the CPU."""
    if device == "cpu":
        return dict(batch)
    return {
        name: _send(value, device) if torch.is_tensor(value) and name != LENGTHS else value
        for name, value in batch.items()
    }


def _send(tensor: torch.Tensor, device: str) -> torch.Tensor:
    if device != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def count_tokens(rows: Sequence[Row]) -> int:
    """Return the real tokens of rows; padding does not count."""
    return sum(len(example) for row in rows for example in row)


def count_trained(rows: Sequence[Row]) -> int:
    """Return the tokens that are learned."""
    return sum(example.trained for row in rows for example in row)
