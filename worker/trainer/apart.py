"""Attention over a row of several examples, in which each example sees itself alone.

Registered with transformers under a name of its own. A batch that brings its examples' lengths is
computed example by example, or at once by variable-length kernels on a card: no mask, no padding,
and the work of the examples alone. Without lengths (generation) it is ordinary masked attention.
Knows no model family: a family that will not be kept apart is found by trying (``keeps_apart``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.nn.functional import dropout as dropped
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

NAME = "apart"
_WIDEST = 256  # of a head, in kernels for examples of many lengths
# Of the logits, by which a strange neighbour may change them: noise of sums in another order. In
# 16 bits experts see other batches; an example that is truly seen changes far more.
_NOISE = {torch.float32: 1e-4}
_NOISE_16 = 2e-2
_LENGTH = 12  # tokens of an example when this is tried


class Heads(NamedTuple):
    """Queries, keys and values: (batch, heads, tokens, width)."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    def repeated(self) -> "Heads":
        """Return as many heads of keys and values as of queries."""
        each = self.query.shape[1] // self.key.shape[1]
        if each == 1:
            return self
        key, value = (one.repeat_interleave(each, dim=1) for one in (self.key, self.value))
        return Heads(self.query, key, value)

    def cast(self) -> "Heads":
        """Return them as autocast has a card compute; positions turn queries to 32 bits."""
        if not self.query.is_cuda or not torch.is_autocast_enabled("cuda"):
            return self
        return Heads(*(one.to(torch.get_autocast_dtype("cuda")) for one in self))

    def split(self, lengths: Sequence[int]) -> list["Heads"]:
        """Return the heads of each example of a row."""
        parts = [one.split(list(lengths), dim=2) for one in self]
        return [Heads(*part) for part in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Manner:
    """How a layer attends.

    ``window`` counts the token itself, as transformers' masks do. Scores may be bent towards a
    limit, ``softcap`` (Gemma 2), or share their weight with ``sinks``, one a head (GPT-OSS).
    """

    scale: float
    dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Tell whether kernels know it."""
        return self.softcap is None and self.sinks is None


def attend(  # noqa: PLR0913, PLR0917  # transformers' contract of an attention function
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    example_lengths: Sequence[int] | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return attention's output, (batch, tokens, heads, width), as transformers asks for it.

    ``example_lengths`` and ``cu_seq_lens_q`` (their sums from 0) say which examples lie in the one
    row.
    """
    if others.get("position_bias") is not None or not getattr(module, "is_causal", True):
        raise NotImplementedError("attention by bias or to later tokens is not built")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    manner = Manner(scale, dropout, sliding_window, softcap, s_aux)
    heads = Heads(query, key, value).cast()
    if example_lengths is None:
        if attention_mask is not None and not attention_mask.numel():
            raise ValueError("a row of several examples came without their lengths")
        is_causal = attention_mask is None and query.shape[2] > 1
        found = _one(heads, attention_mask, manner, is_causal=is_causal)
        return found.transpose(1, 2).contiguous(), None
    if cu_seq_lens_q is not None and _has_kernel(heads.query, manner):
        return _at_once(heads, cu_seq_lens_q, max(example_lengths), manner), None
    found = torch.cat([_example(part, manner) for part in heads.split(example_lengths)], dim=2)
    return found.transpose(1, 2).contiguous(), None


def mask(*given: Any, **named: Any) -> torch.Tensor | None:
    """Return the mask that SDPA needs; an empty one where a row's examples bring their lengths.

    Transformers asks for no skipping of the causal mask, of a batch without padding, only where
    positions start again. ``attend`` refuses the empty one without lengths.
    """
    is_row = (
        named.get("attention_mask") is None
        and not named.get("allow_is_causal_skip", True)
        and not named.get("use_vmap")
        and named.get("batch_size") == 1
        and named.get("q_length") == named.get("kv_length")
    )
    if is_row:
        return torch.empty(0, dtype=torch.bool, device=named.get("device", "cpu"))
    return sdpa_mask(*given, **named)


def _example(heads: Heads, manner: Manner) -> torch.Tensor:
    length = heads.query.shape[2]
    if manner.window is None or length <= manner.window:
        return _one(heads, None, manner, is_causal=True)
    seen = _within(length, manner.window, heads.query.device)
    return _one(heads, seen, manner, is_causal=False)


@lru_cache(maxsize=16)
def _within(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Return which tokens see which: those before, and of these the nearest only."""
    place = torch.arange(length, device=device)
    back = place[:, None] - place[None, :]
    return (back >= 0) & (back < window)


def _one(
    heads: Heads, seen: torch.Tensor | None, manner: Manner, *, is_causal: bool
) -> torch.Tensor:
    if not manner.is_plain:
        return _by_scores(heads, seen, manner, is_causal=is_causal)
    if seen is not None:  # with a mask, kernels want as many heads of keys as of queries
        heads = heads.repeated()
    return scaled_dot_product_attention(
        heads.query,
        heads.key,
        heads.value,
        attn_mask=seen,
        dropout_p=manner.dropout,
        is_causal=is_causal,
        scale=manner.scale,
        enable_gqa=heads.query.shape[1] != heads.key.shape[1],
    )


def _by_scores(
    heads: Heads, seen: torch.Tensor | None, manner: Manner, *, is_causal: bool
) -> torch.Tensor:
    """Attend by scores that are written out, which a kernel would not bend or share."""
    query, key, value = heads.repeated()
    scores = query @ key.transpose(2, 3) * manner.scale
    if manner.softcap is not None:
        scores = torch.tanh(scores / manner.softcap) * manner.softcap
    if is_causal:
        seen = _within(query.shape[2], query.shape[2], query.device)
    if seen is not None:
        least = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~seen, least) if seen.dtype == torch.bool else scores + seen
    tokens = scores.shape[-1]
    if manner.sinks is not None:
        sinks = manner.sinks.to(scores.dtype).reshape(1, -1, 1, 1)
        scores = torch.cat([scores, sinks.expand(*scores.shape[:-1], 1)], dim=-1)
    shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)[..., :tokens]
    return dropped(shares, p=manner.dropout, training=manner.dropout > 0) @ value


def _has_kernel(query: torch.Tensor, manner: Manner) -> bool:
    """Tell whether a kernel takes examples of many lengths at once; all else goes one by one."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] <= _WIDEST
        and query.shape[-1] % 8 == 0
        and manner.is_plain
        and manner.dropout == 0
        and not torch.are_deterministic_algorithms_enabled()  # its gradients' sums have no order
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and _varlen() is not None
    )


@lru_cache(maxsize=1)
def _varlen() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # torch before 2.10
        return None
    return varlen_attn


def _at_once(heads: Heads, sums: torch.Tensor, longest: int, manner: Manner) -> torch.Tensor:
    kernel = _varlen()
    assert kernel is not None
    repeated = heads.repeated()  # torch 2.11's kernel asks for it
    rows = [one[0].transpose(0, 1).contiguous() for one in repeated]
    left = -1 if manner.window is None else manner.window - 1  # the kernel counts those before
    window = (left, 0)
    found = kernel(*rows, sums, sums, longest, longest, scale=manner.scale, window_size=window)
    return found[None]


def keeps_apart(model: Any, form: Callable[[Sequence[Sequence[int]]], dict[str, Any]]) -> bool:
    """Tell whether an example's logits stay when the one before it in its row is another.

    Of a model without a vocabulary, its last states.

    ``form`` makes a batch of examples' ids, on the model's device. Whatever keeps a model from
    taking such a batch keeps it from rows of several examples too.
    """
    table = model.get_input_embeddings().weight
    size = table.shape[0]
    first, other, last = (
        [(place * step + 3) % size for place in range(_LENGTH)] for step in (7, 11, 5)
    )
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            one, two = (
                _told(model(**form([before, last]), use_cache=False))[0, -_LENGTH:].float()
                for before in (first, other)
            )
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    finally:
        model.train(was_training)
    size_of = (one - one.mean(-1, keepdim=True)).norm()
    return bool((one - two).norm() <= _NOISE.get(table.dtype, _NOISE_16) * size_of)


def _told(output: Any) -> torch.Tensor:
    return output.logits if "logits" in output else output.last_hidden_state


def use(model: Any) -> bool:
    """Let a model attend this way from now on; tell whether it does."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask)
    model.set_attn_implementation(NAME)
    return model.config._attn_implementation == NAME  # noqa: SLF001  # it has no other name
