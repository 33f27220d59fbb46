"""Conversations as ``{"messages": [{"role", "content"}, …]}``. Pure; knows rows, not files.

`developer` counts as system and `function` as tool. An assistant that calls tools needs no content.
"""

from typing import Any

from app.datasets.formats.base import Column, Findings, Row, Turn
from app.datasets.formats.columns import known_keys, lacking, unknown_keys
from app.datasets.formats.conversation import Conversation
from app.datasets.formats.wording import OPENAI, turns_of, written
from app.datasets.problems import Code


class Messages:
    """The format ``messages``."""

    name = "messages"
    title = "messages (role and content)"
    columns = (Column("messages", "the conversation: a list of turns with role and content"),)
    _known = known_keys(columns)

    def recognises(self, row: Row) -> bool:
        """Tell whether ``row`` has messages at all."""
        return "messages" in row

    def is_whole(self, row: Row) -> bool:
        """Tell whether ``row`` has messages."""
        return "messages" in row

    def findings(self, row: Row, found: Findings | None = None) -> Findings:
        """Return ``found`` with every fault of ``row``."""
        found = Findings() if found is None else found
        talk = Conversation(found)
        if "messages" in row:
            talk.listed(row["messages"], OPENAI, ("messages",))
            talk.end(("messages",))
        else:
            found.add(Code.MISSING_MESSAGES, lambda: lacking(row, "messages"))
        found.take(unknown_keys(row, self._known))
        return found

    def turns(self, row: Row) -> list[Turn]:
        """Return the turns that have a known role, with their text and their tool calls."""
        return list(turns_of(row.get("messages"), OPENAI))

    def conversation(self, row: Row) -> list[dict[str, Any]]:
        """Return the turns with our roles and with text as content."""
        return written(row.get("messages"), OPENAI)


MESSAGES = Messages()
