"""From dataset lines to token ids and a loss mask.

The one door that preview, token report and training share: what is seen is what is trained. Knows
neither torch nor transformers nor jobs: a tokenizer comes in, plain numbers go out. How a text
becomes ids is ``coding``, what is learned ``masks``, many rows at once ``filling``.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from app.datasets.formats import FORMATS, mapped
from app.datasets.formats.preference import PREFERENCE, Side
from app.datasets.formats.wording import tools_of
from app.jobs.state import FailureKind
from worker.trainer import masks
from worker.trainer.chat import chat_of
from worker.trainer.coding import ID
from worker.trainer.failures import TrainerError
from worker.trainer.splitting import held_out_places, key_of
from worker.trainer.templates import TemplateRejects
from worker.trainer.tokensets import IGNORED

__all__ = [
    "IGNORED",
    "Encoded",
    "EncodedSet",
    "Example",
    "TemplateRejects",
    "encode",
    "encode_all",
    "read_examples",
    "render",
    "split",
]

_NAMED = 3  # lines that a message names
_BOM = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation with the tools it may call, and the line of the dataset it stands in.

    Of one with an answer that is preferred, or not, ``asked`` is what stands before it; without
    ``messages`` the row has no such answer.
    """

    line: int
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    asked: Sequence[Mapping[str, Any]] | None = None

    @property
    def said(self) -> Sequence[Mapping[str, Any]]:
        """What rows have in common that must not be parted: the whole, or what is asked."""
        return self.messages if self.asked is None else self.asked


class Tokens(Protocol):
    """An example as the model sees it: as lists, or as arrays of a cache that are read late."""

    @property
    def line(self) -> int:
        """The line of the dataset it stands in."""
        ...

    @property
    def ids(self) -> Sequence[int]:
        """The tokens."""
        ...

    @property
    def labels(self) -> Sequence[int]:
        """The tokens that are learned, in their places; ``IGNORED`` elsewhere."""
        ...

    @property
    def trained(self) -> int:
        """How many tokens are learned."""
        ...

    def __len__(self) -> int:
        """Return how many tokens there are."""
        ...


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

    def __len__(self) -> int:
        """Return how many tokens there are."""
        return len(self.ids)


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
                    found.append(example_of(line, line=number))
    except FileNotFoundError:
        text = f"the dataset's file {path.name} is missing"
        raise TrainerError(FailureKind.BAD_DATASET, text) from None
    if not found:
        raise TrainerError(FailureKind.BAD_DATASET, "the dataset has no rows to train on")
    return found


def example_of(
    data: bytes, *, line: int, form: str = "messages", mapping: Mapping[str, str] | None = None
) -> Example:
    """Return a row's conversation; a row that is none is a ``bad_dataset``, with its line."""
    try:
        row = mapped(_parsed(data.removeprefix(_BOM)), mapping)
        messages = FORMATS[form].conversation(row)
        if messages is None:
            raise ValueError("it is not one conversation")  # noqa: TRY301
        given = row["messages"] if form == "messages" else messages
        if not messages or not given or len(messages) != len(given):
            raise ValueError("a turn has no role, or one that is not known")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = f"line {line} is no row of {form}: {error}"
        raise TrainerError(FailureKind.BAD_DATASET, text) from None
    return Example(line, messages, tools_of(row))


def answer_of(
    data: bytes, *, line: int, side: Side, form: str, mapping: Mapping[str, str] | None = None
) -> Example:
    """Return a row's prompt with its better or worse answer, of which alone is learned.

    A row of another format is a ``bad_dataset``, with its line.
    """
    try:
        if form != PREFERENCE.name:
            raise ValueError("it has no answers that are better or worse")  # noqa: TRY301
        row = mapped(_parsed(data.removeprefix(_BOM)), mapping)
        asked, answer = PREFERENCE.answered(row, side)
        if not asked or answer == []:
            raise ValueError("it lacks what is asked, or an answer")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = f"line {line} is no row of preference: {error}"
        raise TrainerError(FailureKind.BAD_DATASET, text) from None
    read_only = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in asked]
    return Example(line, [*read_only, *answer] if answer else [], tools_of(row), asked)


def _parsed(data: bytes) -> Any:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return json.loads(data.decode())  # takes numbers of any size, and says more of a fault


def split(
    examples: Sequence[Example], *, fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Return (trained, held out), each in the dataset's order; a function of content and seed alone.

    Equal rows go the same way, and a changed row moves no other; see ``splitting``.
    """
    keys = np.array([key_of(example.messages) for example in examples], dtype=np.uint64)
    held_out = held_out_places(keys, fraction=fraction, seed=seed)
    sides: tuple[list[Example], list[Example]] = ([], [])
    for place, example in enumerate(examples):
        sides[place in held_out].append(example)
    return sides


def encode_all(
    tokenizer: Any,
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
        raise rejection(rejected, len(rejected))
    return EncodedSet(kept, truncated, tuple(untrained))


def rejection(rejected: Sequence[tuple[int, str]], count: int) -> TrainerError:
    """Return the failure of a set with ``count`` refused rows; the first name their lines."""
    lines = ", ".join(str(line) for line, _ in rejected[:_NAMED])
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    text = f"the chat template does not take line {lines}{more}: {rejected[0][1]}"
    return TrainerError(FailureKind.TEMPLATE_MISMATCH, text)


def encode(tokenizer: Any, example: Example, *, assistant_only: bool) -> Encoded:
    """Turn one conversation into ids and labels by the model's own chat template.

    ``tokenizer`` is a ``Chat``, or a tokenizer of transformers. The first token is never learned:
    nothing stands before it. Turns of ``weight`` 0 are read only. Raises ``TemplateRejects``.
    """
    chat = chat_of(tokenizer)
    coded = masks.code(
        chat, example.messages, example.tools, assistant_only=assistant_only, coder=chat.whole
    )
    ids: npt.NDArray[np.int64] = np.frombuffer(coded.ids, dtype=ID).astype(np.int64)
    trained = np.frombuffer(coded.trained, dtype=np.bool_)
    return Encoded(example.line, ids.tolist(), np.where(trained, ids, IGNORED).tolist())


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    ask: bool = False,
) -> list[int]:
    """Return the ids of the rendered turns; ``ask`` opens an assistant's turn after them."""
    chat = chat_of(tokenizer)
    turns = [masks.for_template(message) for message in messages]
    text = chat.template(tools).render(turns, tools=tools, ask=ask)
    return np.frombuffer(chat.whole.ids(text), dtype=ID).tolist()
