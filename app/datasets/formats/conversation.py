"""What may be wrong with a conversation, whatever the format that writes it. Pure.

Turns are looked at in their order, wherever in a row each stands: in a list, or as the text of a
column. Knows no column by name; every format asks here, so that a code means the same in all.
Remembers of the turns so far only what later ones are held against: there may be a million.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from app.datasets.formats.base import Finding, Findings, Path, shortened
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


@dataclass(slots=True)  # made for every turn: a frozen one takes twice as long
class _Seen:
    """What is known of a turn once it has been looked at."""

    path: Path
    role: str | None
    calls: bool = False
    text: str = ""
    spot: Path = ()  # of its text


@dataclass(slots=True)
class _Before:
    """What is remembered of the turns so far."""

    turns: int = 0
    last: _Seen | None = None
    caller: _Seen | None = None  # the last one that is no tool's


class Conversation:
    """Looks at one turn after the other; ``found`` takes the faults."""

    def __init__(self, found: Findings, before: _Before | None = None) -> None:
        """Begin a conversation, behind turns that have been looked at ``before``."""
        self.found = found
        self._before = before or _Before()
        self._follows = self._before.turns > 0
        self._new = 0  # turns that do not stand before
        self._answer: _Seen | None = None  # the last of them that is the assistant's
        self._is_clear = True  # each of them says who speaks

    def answered(self) -> "Conversation":
        """Return an answer to look at, which follows the turns so far."""
        return Conversation(self.found, replace(self._before))

    def listed(self, value: object, wording: Wording, path: Path) -> None:
        """Look at a list of turns, which stands at ``path``."""
        if type(value) is not list:
            message = f"{path[-1]} is {shortened(value)}, not a list"
            self.found.add(Code.MESSAGES_NOT_A_LIST, lambda: message, path)
        elif not value:
            self.found.add(Code.EMPTY_MESSAGES, lambda: f"{path[-1]} is an empty list", path)
        else:
            for place, turn in enumerate(value):
                self._turn(turn, wording, (*path, place))

    def said(self, role: str, content: object, path: Path) -> None:
        """Look at a turn of ``role`` whose content is the value at ``path``."""
        if content is None:
            self.found.add(Code.MISSING_CONTENT, lambda: f"{named(path)} is null", path)
            self.add(role, "", path)
        else:
            self.add(role, _content(content, path, lambda: named(path), self.found), path)

    def add(self, role: str, text: str, path: Path) -> None:
        """Take a turn that has been looked at by itself."""
        self._follow(_Seen(path, role, text=text, spot=path))

    def _turn(self, turn: Any, wording: Wording, path: Path) -> None:
        if type(turn) is dict:
            self._follow(_look(turn, wording, path, self.found))
            return
        self.found.add(
            Code.MESSAGE_NOT_AN_OBJECT,
            lambda: f"{named(path)} is {shortened(turn)}, not an object",
            path,
        )
        self._remember(_Seen(path, None))

    def _remember(self, turn: _Seen) -> None:
        before = self._before
        before.turns, before.last = before.turns + 1, turn
        if turn.role != "tool":
            before.caller = turn
        self._new += 1
        self._is_clear &= turn.role is not None
        if turn.role == "assistant":
            self._answer = turn

    def _follow(self, turn: _Seen) -> None:
        """Look at a turn beside the ones before it."""
        before, count, path = self._before.last, self._before.turns, turn.path
        if turn.role == "system":
            if count:
                self.found.add(Code.SYSTEM_NOT_FIRST, lambda: _late_system(path, count), path)
        elif turn.role == "tool":
            # A turn whose role is broken may have been the call.
            caller = self._before.caller
            if caller is None or not (caller.calls or caller.role is None):
                self.found.add(Code.ROLES_DO_NOT_ALTERNATE, lambda: _uncalled(path), path)
        elif before is not None and turn.role is not None and before.role == turn.role:
            self.found.add(
                Code.ROLES_DO_NOT_ALTERNATE,
                lambda: f"{both(before.path, path)} are both the {turn.role}'s",
                path,
            )
        self._remember(turn)

    def end(self, path: Path) -> None:
        """Look at how the turns end that are new in this conversation; they stand at ``path``."""
        last, answer = self._before.last, self._answer
        if last is None or answer is None:
            if self._new and self._is_clear:
                where = f" of {path[0]}" if self._follows else ""
                message = f"no turn{where} is the assistant's"
                self.found.add(Code.NO_ASSISTANT_MESSAGE, lambda: message, path)
            return
        if last.role not in ("assistant", None):
            message = f"{named(last.path)}, the last one, is the {last.role}'s"
            self.found.add(Code.ENDS_WITHOUT_ASSISTANT, lambda: message, last.path)
        length = len(answer.text.strip())
        if 0 < length < SHORT_ANSWER_CHARACTERS and not answer.calls:
            short = f"the last answer, {shortened(answer.text)}, is {length} characters long"
            self.found.add(Code.VERY_SHORT_ANSWER, lambda: short, answer.spot)


def _late_system(path: Path, before: int) -> str:
    others = "another turn" if before == 1 else f"{before} other turns"
    return f"{named(path)} is the system's, after {others}"


def _uncalled(path: Path) -> str:
    return f"{named(path)} is a tool's, and no tool was called before it"


def _look(turn: dict[str, Any], wording: Wording, path: Path, found: Findings) -> _Seen:
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
            found.add(Code.MISSING_CONTENT, lambda: f"the content of {named(path)} is {what}", path)
    else:
        text = _content(
            content, spot, lambda: f"the content of {named(path)}", found, may_be_empty=beside
        )
    if "weight" in turn:
        _weight(turn["weight"], role, path, found)
    if not turn.keys() <= wording.turn_keys:
        found.take(_unknown_keys(turn, wording, path))
    return _Seen(path, role, beside or wording.is_call(turn), text, spot)


def _role(turn: dict[str, Any], wording: Wording, path: Path, found: Findings) -> str | None:
    role = wording.role(turn)
    if role is not None:
        return role
    key = wording.role_key(turn)
    name = turn.get(key)
    if name is None:
        found.add(Code.MISSING_ROLE, lambda: f"{named(path)} does not say who speaks", path)
    else:
        found.add(Code.UNKNOWN_ROLE, lambda: _no_role(name, wording, path), (*path, key))
    return None


def _no_role(name: object, wording: Wording, path: Path) -> str:
    word = name.strip().lower() if isinstance(name, str) else ""
    meant = word if word in wording.roles else _ALIASES.get(word)
    message = f"the role of {named(path)} is {shortened(name)}"
    return message + (f", perhaps {meant}" if meant else "")


def _content(
    content: object,
    path: Path,
    what: Callable[[], str],
    found: Findings,
    *,
    may_be_empty: bool = False,
) -> str:
    """Return the text of a content that is not null; ``what`` names it in a sentence."""
    if type(content) is list:
        before = found.counts[Code.CONTENT_NOT_TEXT]
        found.take(_parts(content, path))
        if found.counts[Code.CONTENT_NOT_TEXT] > before:
            return ""
    elif type(content) is not str:
        found.add(
            Code.CONTENT_NOT_TEXT, lambda: f"{what()} is {shortened(content)}, not text", path
        )
        return ""
    text = content_text(content)
    if not may_be_empty and not text.strip():
        how = "only white space" if text else "empty"
        found.add(Code.EMPTY_CONTENT, lambda: f"{what()} is {how}", path)
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


def _weight(weight: object, role: str | None, path: Path, found: Findings) -> None:
    if role not in ("assistant", None):
        message = f"{named(path)} has a weight and is not the assistant's but the {role}'s"
    elif isinstance(weight, bool) or weight not in (0, 1):
        message = f"the weight of {named(path)} is {shortened(weight)}"
    else:
        return
    found.add(Code.BAD_WEIGHT, lambda: message, (*path, "weight"))


def _unknown_keys(turn: dict[str, Any], wording: Wording, path: Path) -> Iterator[Finding]:
    for key in turn:
        if key not in wording.turn_keys:
            message = f"the key {shortened(key)} of {named(path)} is not used in training"
            yield Finding(Code.UNKNOWN_KEY, message, (*path, key))
