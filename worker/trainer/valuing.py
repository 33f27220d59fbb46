"""What a reward model finds answers worth, each with its prompt before it.

The value is read at the end of what the chat template makes of both. Knows a loaded model; neither
objectives nor steps.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch

from worker.trainer import heads
from worker.trainer.data import Tokens
from worker.trainer.loading import Loaded
from worker.trainer.packing import alone, to_device


def values(loaded: Loaded, answers: Sequence[Tokens]) -> torch.Tensor:
    """Return what each answer is worth, of shape (answers,), in 32 bits."""
    batch = to_device(loaded.collate(alone(answers)), loaded.device)
    rows = len(batch.pop("labels"))
    with loaded.autocast():
        states = heads.reader(loaded.model)(**batch, use_cache=False).last_hidden_state
    ends = [heads.end_of(loaded.model, one.ids) for one in answers]
    places = list(enumerate(ends)) if rows > 1 else [(0, end) for end in _in_one_row(answers, ends)]
    row, column = torch.tensor(places, device=states.device).T
    return heads.value(loaded.model, states[row, column])


def _in_one_row(answers: Sequence[Tokens], ends: Sequence[int]) -> Iterator[int]:
    before = accumulate((len(one) for one in answers), initial=0)
    return (start + end for start, end in zip(before, ends, strict=False))
