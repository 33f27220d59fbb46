"""Answers that a model writes: greedily, or drawn by chance. Knows a loaded model, no dataset."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from worker.trainer.loading import Loaded

AT_ONCE = {"cpu": 16, "cuda": 32, "mps": 16}


@dataclass(frozen=True)
class Answer:
    """What was written to a prompt: its tokens with the one that ended it, if one did."""

    ids: list[int]
    is_ended: bool


def ends_of(loaded: Loaded, learned: set[int]) -> list[int]:
    """Return the tokens that end an answer: the model's own, and the template's end of a turn.

    ``learned`` are the tokens that are learned: the special ones among them end a turn.
    """
    configured = loaded.model.generation_config.eos_token_id
    ends = set(configured if isinstance(configured, list) else [configured])
    ends.add(loaded.tokenizer.eos_token_id)
    special = set(loaded.tokenizer.all_special_ids)
    return sorted(end for end in ends | (special & learned) if end is not None)


@torch.no_grad()
def answers(
    loaded: Loaded,
    prompts: Sequence[Sequence[int]],
    *,
    most: int,
    ends: Sequence[int],
    temperature: float | None = None,
) -> list[Answer]:
    """Return an answer of at most ``most`` tokens to each prompt; greedy without a temperature.

    All prompts are answered at once; give as many as memory takes.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = [[loaded.pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    out = loaded.model.generate(
        input_ids=torch.tensor(ids, device=loaded.device),
        attention_mask=torch.tensor(mask, device=loaded.device),
        max_new_tokens=most,
        do_sample=temperature is not None,
        temperature=temperature,
        top_p=None if temperature is None else 1.0,
        top_k=None if temperature is None else 0,
        eos_token_id=list(ends) or None,
        pad_token_id=loaded.pad,
    )
    return [_cut(new, ends) for new in out[:, width:].tolist()]


def _cut(new: list[int], ends: Sequence[int]) -> Answer:
    """Return what was written up to its end; behind that is padding."""
    end = next((place for place, token in enumerate(new) if token in ends), None)
    return Answer(new, is_ended=False) if end is None else Answer(new[: end + 1], is_ended=True)


def text_of(loaded: Loaded, answer: Answer) -> str:
    """Return an answer's text without special tokens and without blanks around it."""
    return loaded.tokenizer.decode(answer.ids, skip_special_tokens=True).strip()
