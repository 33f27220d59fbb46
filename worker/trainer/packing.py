"""From encoded examples to batches: alone and padded, several in a row, or flat without padding.

Examples that share a row are kept apart: position ids start again, and no token sees another
example. Which form a model takes is the loader's business, which rows there are ``plan``'s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from worker.trainer.data import IGNORED, Tokens
from worker.trainer.plan import alone, pack, rows_of_step, steps_in_epoch

__all__ = [
    "alone",
    "count_tokens",
    "count_trained",
    "flat",
    "pack",
    "packed",
    "padded",
    "rows_of_step",
    "steps_in_epoch",
    "to_device",
]

Row = Sequence[Tokens]


def padded(rows: Sequence[Row], *, pad: int) -> dict[str, Any]:
    """Batch rows of one example each, filled up to the longest."""
    lengths = [len(row[0]) for row in rows]
    longest = max(lengths)
    return {
        "input_ids": _table([row[0].ids for row in rows], longest, pad),
        "attention_mask": _table([[1] * length for length in lengths], longest, 0),
        "labels": _table([row[0].labels for row in rows], longest, IGNORED),
    }


def packed(rows: Sequence[Row], *, pad: int) -> dict[str, Any]:
    """Batch rows of several examples; transformers keeps apart what starts at position 0 again."""
    longest = max(sum(len(example) for example in row) for row in rows)
    ids = [[token for example in row for token in example.ids] for row in rows]
    labels = [[label for example in row for label in example.labels] for row in rows]
    places = [[place for example in row for place in range(len(example))] for row in rows]
    filled = [row + list(range(longest - len(row))) for row in places]
    return {
        "input_ids": _table(ids, longest, pad),
        "position_ids": torch.tensor(filled),
        "labels": _table(labels, longest, IGNORED),
    }


def flat(rows: Sequence[Row]) -> dict[str, Any]:
    """Put all examples into one row without any padding, with their lengths, as Unsloth takes it."""
    examples = [example for row in rows for example in row]
    return {
        "input_ids": torch.tensor([[token for one in examples for token in one.ids]]),
        "position_ids": torch.tensor([[at for one in examples for at in range(len(one))]]),
        "labels": torch.tensor([[label for one in examples for label in one.labels]]),
        "packed_seq_lengths": torch.tensor([len(one) for one in examples], dtype=torch.int32),
    }


def _table(rows: Sequence[Sequence[int]], width: int, fill: int) -> torch.Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def to_device(batch: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Move a batch's tensors; lengths stay, for Unsloth reads them on the CPU."""
    if device == "cpu":
        return dict(batch)
    return {
        name: tensor if name == "packed_seq_lengths" else _send(tensor, device)
        for name, tensor in batch.items()
    }


def _send(tensor: torch.Tensor, device: str) -> torch.Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


def count_tokens(rows: Sequence[Row]) -> int:
    """Return the real tokens of rows; padding does not count."""
    return sum(len(example) for row in rows for example in row)


def count_trained(rows: Sequence[Row]) -> int:
    """Return the tokens that are learned."""
    return sum(example.trained for row in rows for example in row)
