"""From encoded examples to batches: alone and padded, several in a row, or flat without padding.

Examples that share a row are kept apart: position ids start again, and no token sees another
example. Which form a model takes is the loader's business.
"""

import random
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from worker.trainer.data import IGNORED, Encoded

Row = Sequence[Encoded]


def pack(examples: Sequence[Encoded], *, max_length: int) -> list[list[Encoded]]:
    """Fill rows of at most ``max_length`` tokens: longest first, each where least room is left."""
    rows: list[list[Encoded]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for example in sorted(examples, key=lambda one: (-len(one.ids), one.line)):
        at = bisect_left(room, (len(example.ids), -1))
        if at < len(room):
            left, row = room.pop(at)
        else:
            left, row = max_length, len(rows)
            rows.append([])
        rows[row].append(example)
        insort(room, (left - len(example.ids), row))
    return rows


def alone(examples: Sequence[Encoded]) -> list[list[Encoded]]:
    """Give each example a row of its own."""
    return [[example] for example in examples]


def steps_in_epoch(rows: int, rows_in_step: int) -> int:
    """Return how many steps see each row once."""
    return -(-rows // rows_in_step)


def rows_of_step(step: int, *, rows: int, rows_in_step: int, seed: int) -> list[int]:
    """Return which rows step ``step`` (from 0) trains.

    A function of the step's number, so that nothing but the number needs to be saved.
    """
    epoch, place = divmod(step, steps_in_epoch(rows, rows_in_step))
    return order_of_epoch(epoch, rows=rows, seed=seed)[
        place * rows_in_step : (place + 1) * rows_in_step
    ]


@lru_cache(maxsize=2)
def order_of_epoch(epoch: int, *, rows: int, seed: int) -> list[int]:
    """Return the rows' order in an epoch."""
    order = list(range(rows))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def padded(rows: Sequence[Row], *, pad: int) -> dict[str, Any]:
    """Batch rows of one example each, filled up to the longest."""
    longest = max(len(row[0].ids) for row in rows)
    lengths = [len(row[0].ids) for row in rows]
    return {
        "input_ids": _table([row[0].ids for row in rows], longest, pad),
        "attention_mask": _table([[1] * length for length in lengths], longest, 0),
        "labels": _table([row[0].labels for row in rows], longest, IGNORED),
    }


def packed(rows: Sequence[Row], *, pad: int) -> dict[str, Any]:
    """Batch rows of several examples; transformers keeps apart what starts at position 0 again."""
    longest = max(sum(len(example.ids) for example in row) for row in rows)
    ids = [[token for example in row for token in example.ids] for row in rows]
    labels = [[label for example in row for label in example.labels] for row in rows]
    places = [[place for example in row for place in range(len(example.ids))] for row in rows]
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
        "position_ids": torch.tensor([[at for one in examples for at in range(len(one.ids))]]),
        "labels": torch.tensor([[label for one in examples for label in one.labels]]),
        "packed_seq_lengths": torch.tensor([len(one.ids) for one in examples], dtype=torch.int32),
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
    return sum(len(example.ids) for row in rows for example in row)


def count_trained(rows: Sequence[Row]) -> int:
    """Return the tokens that are learned."""
    return sum(example.trained for row in rows for example in row)
