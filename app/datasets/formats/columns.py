"""What formats ask of a row's columns, before they look at what is in them. Pure."""

from collections.abc import Iterator
from typing import Any

from app.datasets.formats.base import Column, Finding, Findings, Row, Turn, shortened
from app.datasets.formats.conversation import Conversation
from app.datasets.formats.wording import FREE_KEYS, content_text
from app.datasets.problems import Code

SYSTEM = Column("system", "what the system says first", required=False)
_NAMED = 4  # columns that a message names


def known_keys(columns: tuple[Column, ...], *more: str) -> frozenset[str]:
    """Return the keys of a row that are never reported."""
    return FREE_KEYS | {column.name for column in columns} | set(more)


def unknown_keys(row: Row, known: frozenset[str]) -> Iterator[Finding]:
    """Yield the keys of ``row`` that no training uses."""
    if row.keys() <= known:
        return
    for key in row:
        if key not in known:
            message = f"the row's key {shortened(key)} is not used in training"
            yield Finding(Code.UNKNOWN_KEY, message, (key,))


def missing(row: Row, *names: str) -> Iterator[Finding]:
    """Yield which of the columns ``names`` the row lacks."""
    for name in names:
        if name not in row:
            yield Finding(Code.MISSING_COLUMN, lacking(row, name))


def lacking(row: Row, name: str) -> str:
    """Return the sentence that ``row`` has no column ``name``, with those that it has."""
    if not row:
        return "the row is empty"
    names = [shortened(key, 24) for key in list(row)[:_NAMED]]
    more = f" and {len(row) - _NAMED} more keys" if len(row) > _NAMED else ""
    return f"the row has no {name}; it has {', '.join(names)}{more}"


def is_blank(value: object) -> bool:
    """Tell whether a column that may be left out is: null, no text, only white space, or []."""
    return value is None or (not value.strip() if isinstance(value, str) else value == [])


def begin(row: Row, found: Findings) -> Conversation:
    """Return a conversation that begins with the row's system column, if it has one."""
    talk = Conversation(found)
    if not is_blank(row.get("system")):
        talk.said("system", row["system"], ("system",))
    return talk


def system_turns(row: Row) -> list[Turn]:
    """Return the turn of the row's system column, if it has one."""
    text = content_text(row.get("system"))
    return [Turn("system", text)] if text.strip() else []


def as_messages(turns: list[Turn]) -> list[dict[str, Any]]:
    """Return turns of text as a chat template gets them."""
    return [{"role": turn.role, "content": turn.text} for turn in turns]
