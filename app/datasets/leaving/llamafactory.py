"""LlamaFactory's ``dataset_info.json`` for a version: how its loader finds the columns. Pure.

Its two layouts are ``alpaca`` (a column for each part) and ``sharegpt`` (a list of turns); what is
in neither is described as the export in messages, which always is.
Source: the README of LlamaFactory's ``data`` folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.datasets.formats.base import Row

_MESSAGES_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "system_tag": "system",
}
_SHAREGPT_NAMES = {
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant", "chatgpt", "bard", "bing", "model"),
    "observation_tag": ("observation", "tool", "function_response"),
    "function_tag": ("function_call",),
    "system_tag": ("system",),
}
_ALPACA = (
    ("prompt", "instruction"),
    ("query", "input"),
    ("response", "output"),
    ("system", "system"),
    ("history", "history"),
)
_PROMPTS = (("prompt", "prompt"), ("response", "completion"), ("system", "system"))
_PAIRS = (("prompt", "prompt"), ("chosen", "chosen"), ("rejected", "rejected"))
_ONE_ANSWER = (("prompt", "prompt"), ("response", "completion"), ("kto_tag", "label"))


@dataclass(frozen=True)
class Source:
    """What is described: the format, the first good rows by our names, and the file's names."""

    format: str
    rows: Sequence[Row]
    mapping: Mapping[str, str]
    is_table: bool  # CSV or TSV, whose lists the loader would take for texts
    filename: str  # of the version without bad rows
    messages_filename: str  # of its export in messages

    def has(self, column: str) -> bool:
        """Tell whether a row has a value in a column."""
        return any(row.get(column) not in (None, "", []) for row in self.rows)

    def is_text(self, *columns: str) -> bool:
        """Tell whether the columns are texts wherever they are given."""
        return all(isinstance(row.get(name, ""), str) for row in self.rows for name in columns)

    def theirs(self, column: str) -> str:
        """Return the name of a column in the file."""
        return self.mapping.get(column, column)


def dataset_info(name: str, source: Source) -> dict[str, Any] | None:
    """Return the description under a dataset's name; None where LlamaFactory has no such layout."""
    entry = _entry(source)
    return None if entry is None else {name: entry}


def _entry(source: Source) -> dict[str, Any] | None:
    if source.format == "preference":
        return _preference(source)
    found = None if source.is_table else _as_it_is(source)
    return found or _as_messages(source.messages_filename, source)


def _as_it_is(source: Source) -> dict[str, Any] | None:
    """Return the description of the file itself, or None if the loader cannot read it."""
    if source.format == "messages" and not source.mapping and _plain_turns(source.rows):
        return _as_messages(source.filename, source)
    if source.format == "sharegpt":
        return _sharegpt(source)
    if source.format == "alpaca":
        return _columns(source, _ALPACA)
    if source.format == "prompt_completion" and source.is_text("prompt", "completion"):
        return _columns(source, _PROMPTS)
    return None


def _plain_turns(rows: Sequence[Row]) -> bool:
    """Tell whether the turns are as the loader takes them: texts, by the roles it is told."""
    roles = {"system", "user", "assistant", "tool"}
    return all(
        turn.get("role") in roles and isinstance(turn.get("content"), str)
        for row in rows
        for turn in row.get("messages", [])
    )


def _as_messages(filename: str, source: Source) -> dict[str, Any]:
    columns = {"messages": "messages"} | ({"tools": "tools"} if source.has("tools") else {})
    tags = dict(_MESSAGES_TAGS)
    return {"file_name": filename, "formatting": "sharegpt", "columns": columns, "tags": tags}


def _columns(source: Source, parts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    columns = {theirs: source.theirs(ours) for theirs, ours in parts if source.has(ours)}
    return {"file_name": source.filename, "formatting": "alpaca", "columns": columns}


def _sharegpt(source: Source) -> dict[str, Any] | None:
    """Return the description of a ShareGPT file, or None if one side goes by several names."""
    column = "conversations" if source.has("conversations") else "conversation"
    turns = [turn for row in source.rows for turn in row.get(column, [])]
    by_from = all("from" in turn for turn in turns)
    if not by_from and any("from" in turn for turn in turns):
        return None
    used = {turn.get("from" if by_from else "role") for turn in turns}
    tags = {
        "role_tag": "from" if by_from else "role",
        "content_tag": "value" if by_from else "content",
    }
    for tag, names in _SHAREGPT_NAMES.items():
        there = [name for name in names if name in used]
        if len(there) > 1:
            return None
        tags[tag] = there[0] if there else names[0]
    if not used <= set(tags.values()):
        return None
    columns = {"messages": source.theirs(column)}
    columns |= {name: source.theirs(name) for name in ("system", "tools") if source.has(name)}
    file = {"file_name": source.filename, "formatting": "sharegpt"}
    return {**file, "columns": columns, "tags": tags}


def _preference(source: Source) -> dict[str, Any] | None:
    if source.has("label"):
        usable = source.is_text("prompt", "completion")
        return _columns(source, _ONE_ANSWER) if usable else None
    if not source.has("prompt") or not source.is_text("prompt", "chosen", "rejected"):
        return None
    return {**_columns(source, _PAIRS), "ranking": True}
