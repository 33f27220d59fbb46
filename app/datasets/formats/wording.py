"""How formats write a turn: its keys, and their names for who speaks. Pure.

Reads turns, right or wrong, and writes them as chat templates want them; finds no fault.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from app.datasets.formats.base import Turn, strings

# Keys that are never reported, in a row as in a turn.
FREE_KEYS = frozenset(
    [
        "id",
        "source",
        "language",
        "metadata",
        "name",
        "tools",
        "tool_choice",
        "tool_calls",
        "tool_call_id",
        "parallel_tool_calls",
        "functions",
        "function_call",
    ]
)
_KEPT = ("name", "tool_calls", "tool_call_id", "weight")
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Wording:
    """The names that a format has for the parts of a turn; of several keys the first there counts.

    ``roles`` are its names for who speaks → ours. Turns of the roles in ``calls`` are tool calls
    whose text is the call as JSON.
    """

    roles: Mapping[str, str]
    role_keys: tuple[str, ...]
    content_keys: tuple[str, ...]
    calls: frozenset[str] = frozenset()

    @cached_property
    def turn_keys(self) -> frozenset[str]:
        """Return the keys of a turn that are known."""
        return FREE_KEYS | {"weight", *self.role_keys, *self.content_keys}

    def role_key(self, turn: Mapping[str, Any]) -> str:
        """Return the key under which ``turn`` says who speaks."""
        return _first(self.role_keys, turn)

    def content_key(self, turn: Mapping[str, Any]) -> str:
        """Return the key under which ``turn`` has its text."""
        return _first(self.content_keys, turn)

    def role(self, turn: Mapping[str, Any]) -> str | None:
        """Return who speaks in ``turn`` by our name, or None if that is not known."""
        name = turn.get(self.role_key(turn))
        return self.roles.get(name) if type(name) is str else None

    def is_call(self, turn: Mapping[str, Any]) -> bool:
        """Tell whether the text of ``turn`` is a tool call."""
        name = turn.get(self.role_key(turn)) if self.calls else None
        return type(name) is str and name in self.calls


def _first(keys: Sequence[str], turn: Mapping[str, Any]) -> str:
    for key in keys:
        if key in turn:
            return key
    return keys[0]


OPENAI = Wording(
    roles={
        "system": "system",
        "developer": "system",
        "user": "user",
        "assistant": "assistant",
        "tool": "tool",
        "function": "tool",
    },
    role_keys=("role",),
    content_keys=("content",),
)
SHAREGPT = Wording(
    roles={
        **OPENAI.roles,
        "human": "user",
        "gpt": "assistant",
        "chatgpt": "assistant",
        "bard": "assistant",
        "bing": "assistant",
        "model": "assistant",
        "function_call": "assistant",
        "observation": "tool",
        "function_response": "tool",
    },
    role_keys=("from", "role"),
    content_keys=("value", "content"),
    calls=frozenset({"function_call"}),
)


def is_text_part(part: object) -> bool:
    """Tell whether ``part`` of a content is text."""
    return isinstance(part, dict) and part.get("type") == "text" and type(part.get("text")) is str


def content_text(content: object) -> str:
    """Return the text of a turn's content: a string, or its text parts joined."""
    if type(content) is str:
        return content
    if type(content) is not list:
        return ""
    return "".join(part["text"] for part in content if is_text_part(part))


def calls_tools(turn: Mapping[str, Any]) -> bool:
    """Tell whether an assistant's turn calls a tool beside its text."""
    return bool(turn.get("tool_calls") or turn.get("function_call"))


def turns_of(items: object, wording: Wording) -> Iterator[Turn]:
    """Yield the turns of a list that say who speaks, with their text and their tool calls."""
    for turn, role in _spoken(items, wording):
        text = content_text(turn.get(wording.content_key(turn)))
        yield Turn(role, text + _calls_text(turn))


def _spoken(items: object, wording: Wording) -> Iterator[tuple[dict[str, Any], str]]:
    if type(items) is not list:
        return
    for turn in items:
        if type(turn) is dict and (role := wording.role(turn)) is not None:
            yield turn, role


def _calls_text(turn: Mapping[str, Any]) -> str:
    if "tool_calls" not in turn and "function_call" not in turn:
        return ""
    calls = [turn.get("tool_calls"), turn.get("function_call")]
    return "".join(" " + text for _, text in strings(calls))


def written(items: object, wording: Wording) -> list[dict[str, Any]]:
    """Return the turns of a list as a chat template gets them; what is broken is left out."""
    return [_written(turn, role, wording) for turn, role in _spoken(items, wording)]


def _written(turn: dict[str, Any], role: str, wording: Wording) -> dict[str, Any]:
    if len(turn) == 2 and turn.get("role") == role and type(turn.get("content")) is str:  # noqa: PLR2004
        return turn  # as most are
    text = content_text(turn.get(wording.content_key(turn)))
    kept = {key: turn[key] for key in _KEPT if turn.get(key) is not None}
    calls = _calls(turn, text, wording) if role == "assistant" else []
    if calls:
        kept["tool_calls"] = calls
        text = "" if wording.is_call(turn) else text
    return {"role": role, "content": None if calls and not text else text, **kept}


def _calls(turn: dict[str, Any], text: str, wording: Wording) -> Sequence[Any]:
    """Return the tool calls of an assistant's turn, those of older spellings in today's."""
    listed = turn.get("tool_calls")
    if type(listed) is list and listed:
        return listed
    if type(turn.get("function_call")) is dict:
        return [_typed(turn["function_call"])]
    return [_typed(call) for call in _read_calls(text)] if wording.is_call(turn) else []


def _typed(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": function}


def _read_calls(text: str) -> list[dict[str, Any]]:
    """Return the calls that ``text`` is as JSON, one or a list; none if it is something else."""
    try:
        value = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return []
    calls: list[Any] = value if type(value) is list else [value]
    named = all(type(call) is dict and type(call.get("name")) is str for call in calls)
    return calls if named else []


def tools_of(row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the tools that a row's conversation may call, or None.

    They are a list in the column ``tools`` (``functions`` of old), or its JSON as text; functions
    without a type are given theirs.
    """
    value = row.get("tools") or row.get("functions")
    if type(value) is str:
        try:
            value = _decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
    if type(value) is not list or not all(type(tool) is dict for tool in value):
        return None
    return [tool if "type" in tool else _typed(tool) for tool in value] or None
