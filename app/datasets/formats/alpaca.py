"""Instructions as ``{"instruction", "input", "output"}``, with ``system`` and ``history``. Pure.

The user's turn is the instruction and, on lines of its own, the input. ``history`` is a list of
earlier rounds, each a pair of what was asked and answered.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from app.datasets.formats.base import Column, Findings, Path, Row, Turn, shortened
from app.datasets.formats.columns import (
    SYSTEM,
    as_messages,
    begin,
    is_blank,
    known_keys,
    missing,
    system_turns,
    unknown_keys,
)
from app.datasets.formats.conversation import Conversation
from app.datasets.formats.wording import content_text
from app.datasets.problems import Code

_PAIR = 2


class Alpaca:
    """The format ``alpaca``."""

    name = "alpaca"
    title = "Alpaca (instruction, input and output)"
    columns = (
        Column("instruction", "what the user asks"),
        Column("input", "what the instruction is about", required=False),
        Column("output", "what the assistant answers"),
        SYSTEM,
        Column("history", "earlier rounds: a list of [question, answer]", required=False),
    )
    _known = known_keys(columns)

    def recognises(self, row: Row) -> bool:
        """Tell whether ``row`` has an instruction, or input and output."""
        return "instruction" in row or ("output" in row and "input" in row)

    def is_whole(self, row: Row) -> bool:
        """Tell whether ``row`` has instruction and output."""
        return "instruction" in row and "output" in row

    def findings(self, row: Row, found: Findings | None = None) -> Findings:
        """Return ``found`` with every fault of ``row``."""
        found = Findings() if found is None else found
        talk = begin(row, found)
        _history(row.get("history"), talk)
        found.take(missing(row, "instruction"))
        if "instruction" in row:
            _question(row, talk)
        found.take(missing(row, "output"))
        if "output" in row:
            talk.said("assistant", row["output"], ("output",))
            talk.end(("output",))
        found.take(unknown_keys(row, self._known))
        return found

    def turns(self, row: Row) -> list[Turn]:
        """Return system, earlier rounds, question and answer, as far as they have a text."""
        turns = [*system_turns(row), *_rounds(row.get("history"))]
        turns.append(Turn("user", _asked(row)))
        turns.append(Turn("assistant", content_text(row.get("output"))))
        return [turn for turn in turns if turn.text]

    def conversation(self, row: Row) -> list[dict[str, Any]]:
        """Return system, earlier rounds, question and answer."""
        return as_messages(self.turns(row))


def _asked(row: Row) -> str:
    """Return the user's turn: the instruction, and the input below it."""
    parts = (content_text(row.get("instruction")), content_text(row.get("input")))
    return "\n".join(part for part in parts if part.strip())


def _question(row: Row, talk: Conversation) -> None:
    beside = row.get("input")
    if not is_blank(beside) and type(beside) is not str:
        said = shortened(beside)
        talk.found.add(Code.CONTENT_NOT_TEXT, lambda: f"the input is {said}, not text", ("input",))
    if is_blank(row["instruction"]) and _asked(row):
        talk.add("user", _asked(row), ("input",))  # some rows have all of it in the input
    else:
        talk.said("user", row["instruction"], ("instruction",))


def _history(history: object, talk: Conversation) -> None:
    if is_blank(history):
        return
    path: Path = ("history",)
    if type(history) is not list:
        said = shortened(history)
        message = f"the history is {said}, not a list of pairs"
        talk.found.add(Code.MESSAGES_NOT_A_LIST, lambda: message, path)
        return
    for number, pair in enumerate(history):
        if type(pair) is list and len(pair) == _PAIR:
            talk.said("user", pair[0], (*path, number, 0))
            talk.said("assistant", pair[1], (*path, number, 1))
        else:
            talk.found.add(
                Code.MESSAGE_NOT_AN_OBJECT, partial(_no_pair, number, pair), (*path, number)
            )


def _no_pair(number: int, pair: object) -> str:
    return f"round {number + 1} of the history is {shortened(pair)}, not a pair"


def _rounds(history: object) -> Iterator[Turn]:
    for pair in history if isinstance(history, list) else ():
        if type(pair) is list and len(pair) == _PAIR:
            yield Turn("user", content_text(pair[0]))
            yield Turn("assistant", content_text(pair[1]))


ALPACA = Alpaca()
