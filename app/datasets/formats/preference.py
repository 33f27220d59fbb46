"""Pairs of a better and a worse answer: ``{"prompt", "chosen", "rejected"}``. Pure.

Each is a text or a list of turns with role and content. Without a prompt, or where the lists begin
with it, the prompt is what both begin with. A row with ``prompt``, ``completion`` and a ``label``
that is true or false (KTO's) is one of these too. None is one conversation to train on.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from app.datasets.formats.base import Column, Finding, Findings, Row, Turn, shortened
from app.datasets.formats.columns import (
    SYSTEM,
    as_messages,
    begin,
    is_blank,
    known_keys,
    lacking,
    missing,
    system_turns,
    unknown_keys,
)
from app.datasets.formats.conversation import Conversation
from app.datasets.formats.prompt_completion import part, part_messages, part_turns
from app.datasets.problems import Code

Side = Literal["chosen", "rejected"]
One = TypeVar("One")
_PAIR: tuple[Side, Side] = ("chosen", "rejected")


class Answered(NamedTuple):
    """What is asked and one answer to it, as a chat template gets them; None: there is none."""

    asked: list[dict[str, Any]]
    answer: list[dict[str, Any]] | None


class Preference:
    """The format ``preference``."""

    name = "preference"
    title = "preference (chosen and rejected)"
    columns = (
        Column("prompt", "what the user asks: a text, or a list of turns", required=False),
        Column("chosen", "the better answer: a text, or a list of turns"),
        Column("rejected", "the worse answer: a text, or a list of turns"),
        SYSTEM,
        Column("completion", "instead of a pair: one answer", required=False),
        Column("label", "instead of a pair: whether that answer is good", required=False),
    )
    _known = known_keys(columns)

    def recognises(self, row: Row) -> bool:
        """Tell whether ``row`` has chosen or rejected, or a completion that is said to be good."""
        return (
            "chosen" in row
            or "rejected" in row
            or ("completion" in row and _verdict(row.get("label")) is not None)
        )

    def is_whole(self, row: Row) -> bool:
        """Tell whether ``row`` has a pair, or all that stands for one."""
        return ("chosen" in row and "rejected" in row) or (
            "prompt" in row and "completion" in row and _verdict(row.get("label")) is not None
        )

    def findings(self, row: Row, found: Findings | None = None) -> Findings:
        """Return ``found`` with every fault of ``row``."""
        found = Findings() if found is None else found
        looked = _pair if _is_pair(row) else _labelled
        looked(row, found)
        found.take(unknown_keys(row, self._known))
        return found

    def turns(self, row: Row) -> list[Turn]:
        """Return system, prompt, the better answer, then the worse one."""
        if not _is_pair(row):
            return [*_prompt(row, ()), *part_turns(row.get("completion"), "assistant")]
        chosen, rejected = (part_turns(row.get(side), "assistant") for side in _PAIR)
        shared = _shared(chosen, rejected) if _holds_prompt(row) else 0
        return [*_prompt(row, chosen[:shared]), *chosen[shared:], *rejected[shared:]]

    def is_pair(self, row: Row) -> bool:
        """Tell whether ``row`` has two answers, not one with a label."""
        return _is_pair(row)

    def answered(self, row: Row, side: Side) -> Answered:
        """Return a good row's answer of one side; a labelled one is of the side its label says."""
        system = as_messages(system_turns(row))
        prompt = part_messages(row.get("prompt"), "user")
        if not _is_pair(row):
            is_here = _verdict(row.get("label")) is (side == "chosen")
            answer = part_messages(row.get("completion"), "assistant")
            return Answered(system + prompt, answer if is_here else None)
        pair = {one: part_messages(row.get(one), "assistant") for one in _PAIR}
        shared = _shared(*pair.values()) if _holds_prompt(row) else 0
        return Answered(system + (pair[side][:shared] or prompt), pair[side][shared:])

    def conversation(self, row: Row) -> None:
        """Return None: which answer to train depends on how pairs are trained."""
        del row


def _verdict(label: object) -> bool | None:
    """Return what a label says: a boolean, or one that a table has as text."""
    if isinstance(label, bool):
        return label
    return {"true": True, "false": False}.get(label.lower()) if isinstance(label, str) else None


def _is_pair(row: Row) -> bool:
    return "chosen" in row or "rejected" in row or not ("completion" in row or "label" in row)


def _holds_prompt(row: Row) -> bool:
    """Tell whether the lists of a pair begin with the prompt themselves."""
    chosen = row.get("chosen")
    if type(chosen) is not list or not chosen:
        return False
    first = chosen[0].get("role") if type(chosen[0]) is dict else None
    return first != "assistant"


def _prompt(row: Row, implicit: Sequence[Turn]) -> list[Turn]:
    return [*system_turns(row), *(implicit or part_turns(row.get("prompt"), "user"))]


def _shared(one: Sequence[One], other: Sequence[One]) -> int:
    """Return how many turns two conversations begin with in common, but never all."""
    most = min(len(one), len(other)) - 1
    return next((at for at in range(most) if one[at] != other[at]), max(0, most))


def _asked(row: Row, found: Findings) -> Conversation:
    """Look at what stands before the answers."""
    talk = begin(row, found)
    if not is_blank(row.get("prompt")) and not _holds_prompt(row):
        part(talk, row, "prompt", "user")
    return talk


def _pair(row: Row, found: Findings) -> None:
    asked = _asked(row, found)
    for side in _PAIR:
        found.take(missing(row, side))
        if side in row:
            answer = asked.answered()
            part(answer, row, side, "assistant")
            answer.end((side,))
    if "chosen" in row and "rejected" in row:
        found.take(_between(row))


def _between(row: Row) -> list[Finding]:
    """Look at the two answers side by side."""
    chosen, rejected = (part_turns(row[side], "assistant") for side in _PAIR)
    if chosen and chosen == rejected:
        message = f"chosen and rejected are both {shortened(chosen[-1].text)}"
        return [Finding(Code.IDENTICAL_PAIR, message, ("rejected",))]
    begins_apart = chosen and rejected and chosen[0] != rejected[0]
    if begins_apart and _holds_prompt(row) and chosen[0].role != "assistant":
        message = "the row has no prompt: chosen and rejected begin with different turns"
        return [Finding(Code.MISSING_COLUMN, message, ("rejected",))]
    return []


def _labelled(row: Row, found: Findings) -> None:
    talk = begin(row, found)
    found.take(missing(row, "prompt"))
    if "prompt" in row:
        part(talk, row, "prompt", "user")
    answer = talk.answered()
    found.take(missing(row, "completion"))
    if "completion" in row:
        part(answer, row, "completion", "assistant")
        answer.end(("completion",))
    found.take(_label(row))


def _label(row: Row) -> list[Finding]:
    if "label" not in row:
        return [Finding(Code.MISSING_COLUMN, lacking(row, "label"))]
    if _verdict(row["label"]) is None:
        message = f"the label is {shortened(row['label'])}, neither true nor false"
        return [Finding(Code.MISSING_COLUMN, message, ("label",))]
    return []


PREFERENCE = Preference()
