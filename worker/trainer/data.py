"""From dataset lines to token ids and a loss mask.

The one function that preview, token report and training share: what is seen is what is trained.
Knows neither torch nor jobs: a tokenizer comes in, plain lists of numbers go out.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.jobs.state import FailureKind
from worker.trainer.failures import TrainerError

IGNORED = -100  # the label of a token that is read, not learned
_NAMED = 3  # lines that a message names


class TemplateRejects(Exception):
    """The model's chat template refuses an example, or its mask cannot be known."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation, and the line of the dataset it stands in."""

    line: int
    messages: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as the model sees it; ``labels`` repeat the ids that are learned."""

    line: int
    ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """How many tokens are learned."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class EncodedSet:
    """All examples that can be trained, and what became of the others."""

    examples: list[Encoded]
    truncated: int
    untrained: tuple[int, ...]  # lines without a token to learn


def read_examples(path: Path, *, excluded: Iterable[int] = ()) -> list[Example]:
    """Read messages JSONL; blank and excluded lines are left out."""
    left_out = frozenset(excluded)
    found: list[Example] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number not in left_out and line.strip():
                    found.append(Example(number, _messages(line, number)))
    except FileNotFoundError:
        text = f"the dataset's file {path.name} is missing"
        raise TrainerError(FailureKind.BAD_DATASET, text) from None
    if not found:
        raise TrainerError(FailureKind.BAD_DATASET, "the dataset has no rows to train on")
    return found


def _messages(line: bytes, number: int) -> list[dict[str, Any]]:
    try:
        messages = json.loads(line.decode("utf-8-sig"))["messages"]
        if not messages or not all(isinstance(m, dict) and "role" in m for m in messages):
            raise ValueError("messages is not a list of turns with roles")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        text = f"line {number} is no row of messages: {error}"
        raise TrainerError(FailureKind.BAD_DATASET, text) from None
    return messages


def split(
    examples: Sequence[Example], *, fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return (trained, held out), each in the dataset's order; a function of content and seed alone.

    The rows with the smallest hashes are held out, so equal rows go the same way, and a changed row
    moves no other. At least one is held out where a fraction is asked for and two rows exist.
    """
    wanted = round(len(examples) * fraction)
    if fraction > 0 and len(examples) > 1:
        wanted = min(max(wanted, 1), len(examples) - 1)
    by_hash = sorted(examples, key=lambda example: (_hash(example, seed), example.line))
    held_out = {example.line for example in by_hash[:wanted]}
    return (
        [example for example in examples if example.line not in held_out],
        [example for example in examples if example.line in held_out],
    )


def _hash(example: Example, seed: int) -> bytes:
    content = json.dumps(example.messages, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(f"{seed}:{content}".encode()).digest()


def encode_all(
    tokenizer: Any,  # a transformers tokenizer; its types are not ours to import
    examples: Sequence[Example],
    *,
    max_length: int,
    assistant_only: bool,
) -> EncodedSet:
    """Encode every example; refuse the set if the template refuses one, naming the lines."""
    kept: list[Encoded] = []
    rejected: list[tuple[int, str]] = []
    untrained: list[int] = []
    truncated = 0
    for example in examples:
        try:
            encoded = encode(tokenizer, example, assistant_only=assistant_only)
        except TemplateRejects as error:
            rejected.append((example.line, str(error)))
            continue
        truncated += len(encoded.ids) > max_length
        cut = Encoded(example.line, encoded.ids[:max_length], encoded.labels[:max_length])
        if cut.trained:
            kept.append(cut)
        else:
            untrained.append(example.line)
    if rejected:
        raise TrainerError(FailureKind.TEMPLATE_MISMATCH, _rejection(rejected))
    return EncodedSet(kept, truncated, tuple(untrained))


def _rejection(rejected: Sequence[tuple[int, str]]) -> str:
    lines = ", ".join(str(line) for line, _ in rejected[:_NAMED])
    more = f" and {len(rejected) - _NAMED} more" if len(rejected) > _NAMED else ""
    return f"the chat template does not take line {lines}{more}: {rejected[0][1]}"


def encode(tokenizer: Any, example: Example, *, assistant_only: bool) -> Encoded:
    """Turn one conversation into ids and labels by the model's own chat template.

    The first token is never learned: nothing stands before it. Turns of ``weight`` 0 are read only.
    """
    if not tokenizer.chat_template:
        raise TemplateRejects("the model has no chat template")
    messages = [_for_template(message) for message in example.messages]
    ids, mask = _ids_and_mask(tokenizer, messages, assistant_only=assistant_only)
    muted = [m.get("weight") == 0 for m in example.messages if m["role"] == "assistant"]
    if any(muted):
        mask = _mute(mask, muted) if assistant_only else mask
    labels = [token if learn else IGNORED for token, learn in zip(ids, mask, strict=True)]
    return Encoded(example.line, ids, [IGNORED, *labels[1:]])


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if key != "weight"}
    parts = kept.get("content")
    if isinstance(parts, list):
        kept["content"] = "".join(part.get("text", "") for part in parts)
    return kept


def _ids_and_mask(
    tokenizer: Any,
    messages: list[dict[str, Any]],
    *,
    assistant_only: bool,
) -> tuple[list[int], list[int]]:
    if not assistant_only:
        ids = render(tokenizer, messages)
        return ids, [1] * len(ids)
    if "{% generation" in tokenizer.chat_template or "{%- generation" in tokenizer.chat_template:
        return _marked(tokenizer, messages)
    return _by_prefixes(tokenizer, messages)


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    ask: bool = False,
) -> list[int]:
    """Return the ids of the rendered turns; ``ask`` opens an assistant's turn after them."""
    try:
        out = tokenizer.apply_chat_template(
            list(messages), tokenize=True, add_generation_prompt=ask, return_dict=True
        )
    except Exception as error:
        raise TemplateRejects(f"{type(error).__name__}: {error}") from error
    return list(out["input_ids"])


def _marked(tokenizer: Any, messages: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Ask the template itself, by its ``{% generation %}`` markers."""
    try:
        out = tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    except Exception as error:
        raise TemplateRejects(f"{type(error).__name__}: {error}") from error
    return list(out["input_ids"]), list(out["assistant_masks"])


def _by_prefixes(tokenizer: Any, messages: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Find each assistant turn between two rendered prefixes, which must be prefixes as tokens."""
    ids = render(tokenizer, messages)
    mask = [0] * len(ids)
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(tokenizer, messages[:place], ask=True)
        after = render(tokenizer, messages[: place + 1])
        if ids[: len(after)] != after or after[: len(before)] != before:
            raise TemplateRejects(
                f"turn {place + 1} is rendered differently inside its conversation, "
                "so the tokens to learn cannot be known"
            )
        mask[len(before) : len(after)] = [1] * (len(after) - len(before))
    return ids, mask


def _mute(mask: list[int], muted: Sequence[bool]) -> list[int]:
    """Take the turns that are not to be learned out of the mask."""
    starts = [i for i, on in enumerate(mask) if on and not (i and mask[i - 1])]
    if len(starts) != len(muted):
        raise TemplateRejects("turns of weight 0 cannot be told from their neighbours")
    quiet = list(mask)
    for start, mute in zip(starts, muted, strict=True):
        at = start
        while mute and at < len(mask) and mask[at]:
            quiet[at] = 0
            at += 1
    return quiet
