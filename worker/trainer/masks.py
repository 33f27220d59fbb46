"""Which tokens of a conversation are learned: the assistant's turns, exactly, or a refusal.

Where the template marks them, by its markers; elsewhere between two rendered prefixes, each of
which must be a prefix of the next as text and as tokens. Nothing is guessed. Knows no dataset.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from worker.trainer.chat import Chat
from worker.trainer.coding import ID, Asked, Coder, NoBoundary
from worker.trainer.templates import ChatTemplate, Span, TemplateRejects, Tools, Turns


class Coded(NamedTuple):
    """A conversation's ids, 4 bytes each, and a byte for each: 1 if it is learned."""

    ids: bytes
    trained: bytes


class Rendered(NamedTuple):
    """A conversation's text, and where in it a turn to learn begins or ends, in order.

    ``cuts`` is None where everything is learned. ``prefixes`` says that each cut was found by
    rendering what stands before it.
    """

    text: str
    cuts: Sequence[int] | None
    prefixes: bool


def code(
    chat: Chat,
    messages: Turns,
    tools: Tools = None,
    *,
    assistant_only: bool,
    coder: Coder | None = None,
) -> Coded:
    """Return the tokens of a conversation; raise ``TemplateRejects`` with the reason.

    The first token is never learned: nothing stands before it. Turns of ``weight`` 0 are read only.
    """
    one = rendered(chat, messages, tools, assistant_only=assistant_only)
    (found,) = coded([one], coder or chat.quick)
    if isinstance(found, TemplateRejects):
        raise found
    return found


def rendered(chat: Chat, messages: Turns, tools: Tools = None, *, assistant_only: bool) -> Rendered:
    """Return a conversation as the template writes it, and where what is learned lies in it."""
    template = chat.template(tools)
    turns = [for_template(message) for message in messages]
    if not assistant_only:
        return Rendered(template.render(turns, tools=tools), None, prefixes=False)
    if template.has_markers:
        text, spans = template.render_marked(turns, tools=tools)
    else:
        text, spans = _by_prefixes(template, turns, tools)
    cuts = [place for span in _learned(messages, spans) for place in span]
    return Rendered(text, cuts, prefixes=not template.has_markers)


def coded(rows: Sequence[Rendered], coder: Coder) -> list[Coded | TemplateRejects]:
    """Return the tokens of rendered conversations, each learned or not, or why there are none."""
    asked = [Asked(one.text, one.cuts or (), one.prefixes) for one in rows]
    return [
        TemplateRejects(_half(one.text, found.place))
        if isinstance(found, NoBoundary)
        else _masked(one, *found)
        for one, found in zip(rows, coder.code_all(asked), strict=True)
    ]


def _masked(one: Rendered, ids: bytes, places: Sequence[int]) -> Coded:
    size = len(ids) // ID.itemsize
    if one.cuts is None:
        return Coded(ids, _mask(size, [(0, size)]))
    return Coded(ids, _mask(size, list(zip(places[::2], places[1::2], strict=True))))


def for_template(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a turn as templates expect it: without its weight, and with text as content."""
    parts = message.get("content")
    if "weight" not in message and not isinstance(parts, list):
        return message
    kept = {key: value for key, value in message.items() if key != "weight"}
    if isinstance(parts, list):
        kept["content"] = "".join(part.get("text", "") for part in parts)
    return kept


def _by_prefixes(template: ChatTemplate, turns: Turns, tools: Tools) -> tuple[str, list[Span]]:
    text = template.render(turns, tools=tools)
    spans: list[Span] = []
    for place, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        before = template.render(turns[:place], tools=tools, ask=True)
        is_last = place + 1 == len(turns)
        after = text if is_last else template.render(turns[: place + 1], tools=tools)
        if not (text.startswith(after) and after.startswith(before)):
            raise TemplateRejects(
                f"turn {place + 1} is rendered differently inside its conversation, "
                "so the tokens to learn cannot be known"
            )
        spans.append((len(before), len(after)))
    return text, spans


def _learned(messages: Turns, spans: Sequence[Span]) -> list[Span]:
    """Return the stretches of turns that are to be learned; empty ones hold no token."""
    muted = [turn.get("weight") == 0 for turn in messages if turn["role"] == "assistant"]
    if any(muted):
        if len(muted) != len(spans):
            raise TemplateRejects("turns of weight 0 cannot be told from their neighbours")
        spans = [span for span, mute in zip(spans, muted, strict=True) if not mute]
    return [(start, end) for start, end in spans if start < end]


def _half(text: str, place: int) -> str:
    around = text[max(0, place - 12) : place + 12]
    cut = min(place, 12)
    return (
        f"a turn begins or ends within a token ({around[:cut]!r} | {around[cut:]!r}), "
        "so the tokens to learn cannot be known"
    )


def _mask(size: int, stretches: Sequence[Span]) -> bytes:
    mask = bytearray(size)
    for start, end in stretches:
        mask[start:end] = b"\1" * (end - start)
    mask[:1] = bytes(min(size, 1))
    return bytes(mask)
