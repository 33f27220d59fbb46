"""How likely a model finds the learned tokens of examples: what preferences are made of.

Logits are made only where a learned token is predicted, so a long prompt costs no vocabulary. Knows
a loaded model; neither objectives nor steps.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch.nn import functional

from worker.trainer.data import IGNORED, Tokens
from worker.trainer.loading import Loaded
from worker.trainer.packing import alone, to_device


class Likelihoods(NamedTuple):
    """Of each example the summed log-probability of its learned tokens, and how many they are.

    Both have the shape (examples,).
    """

    sums: torch.Tensor
    counts: torch.Tensor

    @property
    def means(self) -> torch.Tensor:
        """The mean of each example's tokens."""
        return self.sums / self.counts


class OfTokens(NamedTuple):
    """The log-probability of each learned token of a batch, and the place of its example in it."""

    logps: torch.Tensor
    owners: torch.Tensor


def likelihoods(loaded: Loaded, examples: Sequence[Tokens]) -> Likelihoods:
    """Return the likelihoods of a batch of examples, each of which has a token to learn."""
    logps, owners = of_tokens(loaded, examples)
    none = logps.new_zeros(len(examples))
    ones = torch.ones_like(logps, requires_grad=False)
    return Likelihoods(none.index_add(0, owners, logps), none.index_add(0, owners, ones))


def of_tokens(loaded: Loaded, examples: Sequence[Tokens], *, temperature: float = 1.0) -> OfTokens:
    """Return the log-probabilities of a batch's learned tokens, in one row, shape (tokens,).

    They are those by which tokens are drawn at this temperature.
    """
    batch = to_device(loaded.collate(alone(examples)), loaded.device)
    labels = batch.pop("labels")[:, 1:]
    columns = (labels != IGNORED).any(dim=0).nonzero().squeeze(1)
    targets = labels[:, columns]
    with loaded.autocast():
        logits = loaded.model(**batch, use_cache=False, logits_to_keep=columns).logits
    is_learned = targets != IGNORED
    losses = functional.cross_entropy(
        logits[is_learned].float() / temperature, targets[is_learned], reduction="none"
    )
    return OfTokens(-losses, _owners(labels, examples)[:, columns][is_learned])


def _owners(labels: torch.Tensor, examples: Sequence[Tokens]) -> torch.Tensor:
    """Return whose each label is: the row's, or where all share one row, by their lengths."""
    each = torch.arange(len(examples), device=labels.device)
    if len(labels) > 1:
        return each[:, None].expand_as(labels)
    lengths = torch.tensor([len(one) for one in examples], device=labels.device)
    return torch.repeat_interleave(each, lengths)[None, 1:]


@contextmanager
def before_training(loaded: Loaded) -> Iterator[None]:
    """Make the model what it was before training, without dropout, as long as the context lasts."""
    with torch.no_grad(), loaded.untrained(), evaluating(loaded):
        yield


@contextmanager
def evaluating(loaded: Loaded) -> Iterator[None]:
    """Switch dropout and checkpointing off as long as the context lasts."""
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        yield
    finally:
        loaded.model.train(was_training)
