"""Conversations as ``{"conversations": [{"from": "human", "value": "…"}, …]}``. Pure.

Turns may as well be written with role and content. A turn of `function_call` has the call as JSON
for its text, `observation` what the tool answered. A column `system` stands before the turns.
"""

from typing import Any

from app.datasets.formats.base import Column, Findings, Row, Turn
from app.datasets.formats.columns import (
    SYSTEM,
    as_messages,
    begin,
    known_keys,
    lacking,
    system_turns,
    unknown_keys,
)
from app.datasets.formats.wording import SHAREGPT as WORDING
from app.datasets.formats.wording import turns_of, written
from app.datasets.problems import Code

_LISTS = ("conversations", "conversation")  # the latter is seen as often as a slip


class ShareGPT:
    """The format ``sharegpt``."""

    name = "sharegpt"
    title = "ShareGPT (conversations with from and value)"
    columns = (
        Column("conversations", "the conversation: a list of turns with from and value"),
        SYSTEM,
        Column("tools", "the tools that may be called", required=False),
    )
    _known = known_keys(columns, *_LISTS)

    def recognises(self, row: Row) -> bool:
        """Tell whether ``row`` has conversations at all."""
        return _list_of(row) is not None

    def is_whole(self, row: Row) -> bool:
        """Tell whether ``row`` has conversations."""
        return _list_of(row) is not None

    def findings(self, row: Row, found: Findings | None = None) -> Findings:
        """Return ``found`` with every fault of ``row``."""
        found = Findings() if found is None else found
        talk = begin(row, found)
        name = _list_of(row)
        if name is None:
            found.add(Code.MISSING_MESSAGES, lambda: lacking(row, "conversations"))
        else:
            talk.listed(row[name], WORDING, (name,))
            talk.end((name,))
        found.take(unknown_keys(row, self._known))
        return found

    def turns(self, row: Row) -> list[Turn]:
        """Return the system's turn and those that have a known role."""
        return [*system_turns(row), *turns_of(row.get(_list_of(row) or ""), WORDING)]

    def conversation(self, row: Row) -> list[dict[str, Any]]:
        """Return the turns with our roles, function calls as tool calls."""
        turns = written(row.get(_list_of(row) or ""), WORDING)
        return as_messages(system_turns(row)) + turns


def _list_of(row: Row) -> str | None:
    return next((name for name in _LISTS if name in row), None)


SHAREGPT = ShareGPT()
