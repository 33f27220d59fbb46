"""``{"prompt": …, "completion": …}``, each a text or a list of turns with role and content.

Pure; knows rows, not files.
"""

from typing import Any

from app.datasets.formats.base import Column, Findings, Row, Turn
from app.datasets.formats.columns import (
    SYSTEM,
    as_messages,
    begin,
    known_keys,
    missing,
    system_turns,
    unknown_keys,
)
from app.datasets.formats.conversation import Conversation
from app.datasets.formats.wording import OPENAI, content_text, turns_of, written


class PromptCompletion:
    """The format ``prompt_completion``."""

    name = "prompt_completion"
    title = "prompt and completion"
    columns = (
        Column("prompt", "what the user asks: a text, or a list of turns"),
        Column("completion", "what the assistant answers: a text, or a list of turns"),
        SYSTEM,
    )
    _known = known_keys(columns)

    def recognises(self, row: Row) -> bool:
        """Tell whether ``row`` has a completion, or a prompt without chosen and rejected."""
        return "completion" in row or (
            "prompt" in row and "chosen" not in row and "rejected" not in row
        )

    def is_whole(self, row: Row) -> bool:
        """Tell whether ``row`` has both."""
        return "prompt" in row and "completion" in row

    def findings(self, row: Row, found: Findings | None = None) -> Findings:
        """Return ``found`` with every fault of ``row``."""
        found = Findings() if found is None else found
        talk = begin(row, found)
        found.take(missing(row, "prompt"))
        if "prompt" in row:
            part(talk, row, "prompt", "user")
        found.take(missing(row, "completion"))
        if "completion" in row:
            answer = talk.answered()
            part(answer, row, "completion", "assistant")
            answer.end(("completion",))
        found.take(unknown_keys(row, self._known))
        return found

    def turns(self, row: Row) -> list[Turn]:
        """Return system, prompt and completion, as far as they can be read."""
        prompt, completion = row.get("prompt"), row.get("completion")
        return [
            *system_turns(row),
            *part_turns(prompt, "user"),
            *part_turns(completion, "assistant"),
        ]

    def conversation(self, row: Row) -> list[dict[str, Any]]:
        """Return system, prompt and completion as one conversation."""
        prompt, completion = row.get("prompt"), row.get("completion")
        system = as_messages(system_turns(row))
        return system + part_messages(prompt, "user") + part_messages(completion, "assistant")


def part(talk: Conversation, row: Row, column: str, role: str) -> None:
    """Look at a column that is a list of turns, or the text of ``role``."""
    value = row[column]
    if type(value) is list:
        talk.listed(value, OPENAI, (column,))
    else:
        talk.said(role, value, (column,))


def part_turns(value: object, role: str) -> list[Turn]:
    """Return the turns of such a column, as far as they can be read."""
    if type(value) is list:
        return list(turns_of(value, OPENAI))
    text = content_text(value)
    return [Turn(role, text)] if text else []


def part_messages(value: object, role: str) -> list[dict[str, Any]]:
    """Return the turns of such a column as a chat template gets them."""
    return written(value, OPENAI) if type(value) is list else as_messages(part_turns(value, role))


PROMPT_COMPLETION = PromptCompletion()
