"""What may be wrong with a conversation, whatever the format that writes it. Pure.

Turns are looked at in their order, wherever in a row each stands: in a list, or as the text of a
column. Knows no column by name; every format asks here, so that a code means the same in all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.datasets.formats.base import Finding, Path, shortened
from app.datasets.formats.places import both, named
from app.datasets.formats.wording import (
    SHAREGPT,
    Wording,
    calls_tools,
    content_text,
    is_text_part,
)
from app.datasets.problems import Code

SHORT_ANSWER_CHARACTERS = 8

_ALIASES = {**SHAREGPT.roles, "bot": "assistant", "ai": "assistant"}
_PART_KEYS = frozenset({"type", "text"})


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is known of a turn once it has been looked at."""

    path: Path
    role: str | None
    calls: bool = False
    text: str = ""
    spot: Path = ()  # of its text


class Conversation:
    """Looks at one turn after the other; ``found`` has the faults so far."""

    def __init__(self, before: Sequence[_Seen] = ()) -> None:
        """Begin a conversation, behind turns that have been looked at ``before``."""
        self.found: list[Finding] = []
        self._seen = list(before)
        self._before = len(before)

    def answered(self) -> "Conversation":
        """Return an answer to look at, which follows the turns so far."""
        return Conversation(self._seen)

    def listed(self, value: object, wording: Wording, path: Path) -> None:
        """Look at a list of turns, which stands at ``path``."""
        if type(value) is not list:
            message = f"{path[-1]} is {shortened(value)}, not a list"
            self.found.append(Finding(Code.MESSAGES_NOT_A_LIST, message, path))
        elif not value:
            self.found.append(Finding(Code.EMPTY_MESSAGES, f"{path[-1]} is an empty list", path))
        else:
            for place, turn in enumerate(value):
                self._turn(turn, wording, (*path, place))

    def said(self, role: str, content: object, path: Path) -> None:
        """Look at a turn of ``role`` whose content is the value at ``path``."""
        if content is None:
            message = f"{named(path)} is null"
            self.found.append(Finding(Code.MISSING_CONTENT, message, path))
            self.add(role, "", path)
        else:
            self.add(role, _content(content, path, named(path), self.found), path)

    def add(self, role: str, text: str, path: Path) -> None:
        """Take a turn that has been looked at by itself."""
        self._seen.append(_Seen(path, role, text=text, spot=path))
        self._order()

    def _turn(self, turn: Any, wording: Wording, path: Path) -> None:
        if type(turn) is not dict:
            message = f"{named(path)} is {shortened(turn)}, not an object"
            self.found.append(Finding(Code.MESSAGE_NOT_AN_OBJECT, message, path))
            self._seen.append(_Seen(path, None))
            return
        self._seen.append(_look(turn, wording, path, self.found))
        self._order()

    def _order(self) -> None:
        """Look at the newest turn beside the ones before it."""
        seen = self._seen
        turn, before = seen[-1], len(seen) - 1
        if turn.role == "system":
            if before:
                others = "another turn" if before == 1 else f"{before} other turns"
                message = f"{named(turn.path)} is the system's, after {others}"
                self.found.append(Finding(Code.SYSTEM_NOT_FIRST, message, turn.path))
        elif turn.role == "tool":
            if not self._answers_a_call():
                message = f"{named(turn.path)} is a tool's, and no tool was called before it"
                self.found.append(Finding(Code.ROLES_DO_NOT_ALTERNATE, message, turn.path))
        elif before and turn.role is not None and seen[-2].role == turn.role:
            message = f"{both(seen[-2].path, turn.path)} are both the {turn.role}'s"
            self.found.append(Finding(Code.ROLES_DO_NOT_ALTERNATE, message, turn.path))

    def _answers_a_call(self) -> bool:
        """Tell whether the last turn, a tool's, follows a call with nothing but tools between."""
        for turn in reversed(self._seen[:-1]):
            if turn.role != "tool":
                # A turn whose role is broken may have been the call.
                return turn.calls or turn.role is None
        return False

    def end(self, path: Path) -> None:
        """Look at how the turns end that are new in this conversation; they stand at ``path``."""
        new = self._seen[self._before :]
        answers = [turn for turn in new if turn.role == "assistant"]
        if not answers:
            if new and all(turn.role is not None for turn in new):
                where = f" of {path[0]}" if self._before else ""
                message = f"no turn{where} is the assistant's"
                self.found.append(Finding(Code.NO_ASSISTANT_MESSAGE, message, path))
            return
        last = new[-1]
        if last.role not in ("assistant", None):
            message = f"{named(last.path)}, the last one, is the {last.role}'s"
            self.found.append(Finding(Code.ENDS_WITHOUT_ASSISTANT, message, last.path))
        answer = answers[-1]
        length = len(answer.text.strip())
        if 0 < length < SHORT_ANSWER_CHARACTERS and not answer.calls:
            message = f"the last answer, {shortened(answer.text)}, is {length} characters long"
            self.found.append(Finding(Code.VERY_SHORT_ANSWER, message, answer.spot))


def _look(turn: dict[str, Any], wording: Wording, path: Path, found: list[Finding]) -> _Seen:
    """Look at one turn of a list by itself."""
    role = _role(turn, wording, path, found)
    beside = role == "assistant" and calls_tools(turn)
    key = wording.content_key(turn)
    spot, content = (*path, key), turn.get(key)
    if type(content) is str and content and not content.isspace():
        text = content
    elif content is None:
        text = ""
        if not beside:
            what = "null" if key in turn else "missing"
            message = f"the content of {named(path)} is {what}"
            found.append(Finding(Code.MISSING_CONTENT, message, path))
    else:
        what = f"the content of {named(path)}"
        text = _content(content, spot, what, found, may_be_empty=beside)
    if "weight" in turn:
        _weight(turn["weight"], role, path, found)
    if not turn.keys() <= wording.turn_keys:
        found.extend(_unknown_keys(turn, wording, path))
    return _Seen(path, role, beside or wording.is_call(turn), text, spot)


def _role(turn: dict[str, Any], wording: Wording, path: Path, found: list[Finding]) -> str | None:
    role = wording.role(turn)
    if role is not None:
        return role
    key = wording.role_key(turn)
    name = turn.get(key)
    if name is None:
        found.append(Finding(Code.MISSING_ROLE, f"{named(path)} does not say who speaks", path))
        return None
    meant = _meant(name, wording)
    message = f"the role of {named(path)} is {shortened(name)}"
    message += f", perhaps {meant}" if meant else ""
    found.append(Finding(Code.UNKNOWN_ROLE, message, (*path, key)))
    return None


def _meant(name: object, wording: Wording) -> str | None:
    word = name.strip().lower() if isinstance(name, str) else ""
    return word if word in wording.roles else _ALIASES.get(word)


def _content(
    content: object, path: Path, what: str, found: list[Finding], *, may_be_empty: bool = False
) -> str:
    """Return the text of a content that is not null; ``what`` names it in a sentence."""
    if type(content) is list:
        broken = list(_parts(content, path))
        found.extend(broken)
        if any(finding.code is Code.CONTENT_NOT_TEXT for finding in broken):
            return ""
    elif type(content) is not str:
        message = f"{what} is {shortened(content)}, not text"
        found.append(Finding(Code.CONTENT_NOT_TEXT, message, path))
        return ""
    text = content_text(content)
    if not may_be_empty and not text.strip():
        how = "only white space" if text else "empty"
        found.append(Finding(Code.EMPTY_CONTENT, f"{what} is {how}", path))
    return text


def _parts(parts: list[Any], path: Path) -> Iterator[Finding]:
    for number, part in enumerate(parts):
        if not is_text_part(part):
            kind = part.get("type") if isinstance(part, dict) else part
            message = f"part {number + 1} of {named(path)} is {shortened(kind)}, not a text part"
            yield Finding(Code.CONTENT_NOT_TEXT, message, (*path, number))
            continue
        for key in part:
            if key not in _PART_KEYS:
                what = f"the key {shortened(key)} of a part of {named(path)}"
                message = f"{what} is not used in training"
                yield Finding(Code.UNKNOWN_KEY, message, (*path, number, key))


def _weight(weight: object, role: str | None, path: Path, found: list[Finding]) -> None:
    if role not in ("assistant", None):
        message = f"{named(path)} has a weight and is not the assistant's but the {role}'s"
    elif isinstance(weight, bool) or weight not in (0, 1):
        message = f"the weight of {named(path)} is {shortened(weight)}"
    else:
        return
    found.append(Finding(Code.BAD_WEIGHT, message, (*path, "weight")))


def _unknown_keys(turn: dict[str, Any], wording: Wording, path: Path) -> Iterator[Finding]:
    for key in turn:
        if key not in wording.turn_keys:
            message = f"the key {shortened(key)} of {named(path)} is not used in training"
            yield Finding(Code.UNKNOWN_KEY, message, (*path, key))
