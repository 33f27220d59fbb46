"""What the text in a table's cell means: JSON where a column holds lists, true and false. Pure."""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from app.datasets.check.rows import parse
from app.datasets.containers.base import Fault
from app.datasets.problems import Code

# Columns that are lists or objects in every format; an empty cell there is no value at all.
_STRUCTURED = frozenset(
    {"messages", "conversations", "conversation", "history", "tools", "functions", "metadata"}
)
_TURNS = ({"role", "content"}, {"from", "value"})
_TRUTH = {"true": b"true", "false": b"false", "1": b"true", "0": b"false"}
Value = str | msgspec.Raw
Reader = Callable[[str], "Value | Fault | None"]


def reader_of(column: str) -> Reader | None:
    """Return what turns a column's text into a value (None: leave it out), or None for text."""
    name = column.strip().lower()
    if name in _STRUCTURED:
        return lambda text: _structured(column, text)
    return _truth if name == "label" else None


def conversation(text: str) -> Value:
    """Return the turns that a cell of any other column holds as JSON, or its text."""
    stripped = text.strip()
    if not stripped.startswith("[") or not stripped.endswith("]"):
        return text
    value, faults = parse(stripped.encode())
    return _raw(stripped) if not faults and is_conversation(value) else text


def tool_calls(text: str) -> Value:
    """Return the calls of a turn that are written as JSON in a text, or the text."""
    stripped = text.strip()
    if not stripped.startswith("["):
        return text
    return text if parse(stripped.encode())[1] else _raw(stripped)


def is_conversation(value: Any) -> bool:
    """Tell whether a value is a list of turns with a role and content."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and _is_turn(turn.keys()) for turn in value)
    )


def _is_turn(keys: Any) -> bool:
    return any(needed <= keys for needed in _TURNS)


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.replace("\n", " ").encode())  # JSON has line breaks between tokens only


def _truth(text: str) -> Value:
    found = _TRUTH.get(text.strip().lower())
    return msgspec.Raw(found) if found else text


def _structured(column: str, text: str) -> Value | Fault | None:
    stripped = text.strip()
    if not stripped:
        return None
    if stripped[0] not in "[{":
        return text
    _, faults = parse(stripped.encode())
    if not faults:
        return _raw(stripped)
    fault = faults[0]
    why = _as_python(stripped) or fault.message
    message = f"the cell of the column {json.dumps(column, ensure_ascii=False)} is no JSON: {why}"
    return Fault(Code.INVALID_JSON, message, fault.text, fault.start, fault.end)


def _as_python(text: str) -> str | None:
    if text.startswith(("[{'", "{'", "['")):
        return "it is written as Python shows it, in single quotes; write it with json.dumps"
    return None
