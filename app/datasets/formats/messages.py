"""Conversations as ``{"messages": [{"role", "content"}, …]}``. Pure; knows rows, not files.

`developer` counts as system and `function` as tool. An assistant that calls tools needs no content.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.datasets.formats.base import Column, Finding, Path, Row, Turn, shortened, strings
from app.datasets.problems import Code

SHORT_ANSWER_CHARACTERS = 8

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_ALIASES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
}
_FREE_KEYS = frozenset(
    [
        "id",
        "source",
        "language",
        "metadata",
        "name",
        "tools",
        "tool_choice",
        "tool_calls",
        "tool_call_id",
        "parallel_tool_calls",
        "functions",
        "function_call",
    ]
)
_ROW_KEYS = _FREE_KEYS | {"messages"}
_TURN_KEYS = _FREE_KEYS | {"role", "content", "weight"}
_KEPT = ("name", "tool_calls", "tool_call_id", "weight")
_PART_KEYS = frozenset({"type", "text"})


@dataclass(frozen=True)
class _Seen:
    """What is known of a turn once it has been looked at."""

    role: str | None
    calls: bool
    text: str


class Messages:
    """The format ``messages``."""

    name = "messages"
    title = "messages (role and content)"
    columns = (Column("messages", "the conversation: a list of turns with role and content"),)

    def recognises(self, row: Row) -> bool:
        """Tell whether ``row`` has messages at all."""
        return "messages" in row

    def is_whole(self, row: Row) -> bool:
        """Tell whether ``row`` has messages."""
        return "messages" in row

    def findings(self, row: Row) -> list[Finding]:
        """Return every fault of ``row``."""
        if "messages" not in row:
            return [Finding(Code.MISSING_MESSAGES, _missing(row)), *_unknown_keys(row)]
        messages = row["messages"]
        found: list[Finding] = []
        if type(messages) is not list:
            message = f"messages is {shortened(messages)}, not a list"
            found.append(Finding(Code.MESSAGES_NOT_A_LIST, message, ("messages",)))
        elif not messages:
            found.append(Finding(Code.EMPTY_MESSAGES, "messages is an empty list", ("messages",)))
        else:
            found += _conversation(messages)
        if not row.keys() <= _ROW_KEYS:
            found += _unknown_keys(row)
        return found

    def turns(self, row: Row) -> list[Turn]:
        """Return the turns that have a known role, with their text and their tool calls."""
        messages = row.get("messages")
        if type(messages) is not list:
            return []
        return [
            Turn(ROLES[turn["role"]], content_text(turn.get("content")) + _calls_text(turn))
            for turn in messages
            if type(turn) is dict and type(turn.get("role")) is str and turn["role"] in ROLES
        ]

    def conversation(self, row: Row) -> list[dict[str, Any]]:
        """Return the turns with our roles and with text as content."""
        return [_written(turn) for turn in row["messages"]]


def _written(turn: dict[str, Any]) -> dict[str, Any]:
    kept = {key: turn[key] for key in _KEPT if key in turn}
    text = content_text(turn.get("content"))
    return {
        "role": ROLES[turn["role"]],
        "content": text or None if calls_tools(turn) else text,
    } | kept


def content_text(content: object) -> str:
    """Return the text of a turn's content: a string, or its text parts joined."""
    if type(content) is str:
        return content
    if type(content) is not list:
        return ""
    return "".join(part["text"] for part in content if _is_text_part(part))


def calls_tools(turn: dict[str, Any]) -> bool:
    """Tell whether an assistant's turn calls a tool."""
    return bool(turn.get("tool_calls") or turn.get("function_call"))


def _calls_text(turn: dict[str, Any]) -> str:
    if "tool_calls" not in turn and "function_call" not in turn:
        return ""
    calls = [turn.get("tool_calls"), turn.get("function_call")]
    return "".join(" " + text for _, text in strings(calls))


def _missing(row: Row) -> str:
    return f"the row has no messages; it has {_key_list(row)}" if row else "the row is empty"


def _key_list(row: Row) -> str:
    names = [shortened(key, 24) for key in list(row)[:4]]
    return ", ".join(names) + (f" and {len(row) - 4} more keys" if len(row) > 4 else "")  # noqa: PLR2004


def _unknown_keys(row: Row) -> Iterator[Finding]:
    for key in row:
        if key not in _ROW_KEYS:
            message = f"the row's key {shortened(key)} is not used in training"
            yield Finding(Code.UNKNOWN_KEY, message, (key,))


def _conversation(messages: list[Any]) -> list[Finding]:
    found: list[Finding] = []
    seen: list[_Seen] = []
    for place, turn in enumerate(messages):
        if type(turn) is not dict:
            message = f"turn {place + 1} is {shortened(turn)}, not an object"
            found.append(Finding(Code.MESSAGE_NOT_AN_OBJECT, message, ("messages", place)))
            seen.append(_Seen(None, calls=False, text=""))
        else:
            seen.append(_turn(turn, place, found))
            _order(seen, found)
    _ending(seen, found)
    return found


def _turn(turn: dict[str, Any], place: int, found: list[Finding]) -> _Seen:
    """Look at one turn by itself."""
    path = ("messages", place)
    role = _role(turn, path, found)
    calls = role == "assistant" and calls_tools(turn)
    text = _content(turn, path, found, calls=calls)
    if "weight" in turn:
        _weight(turn["weight"], role, path, found)
    if not turn.keys() <= _TURN_KEYS:
        found.extend(
            Finding(
                Code.UNKNOWN_KEY,
                f"the key {shortened(key)} of turn {place + 1} is not used in training",
                (*path, key),
            )
            for key in turn
            if key not in _TURN_KEYS
        )
    return _Seen(role, calls, text)


def _role(turn: dict[str, Any], path: Path, found: list[Finding]) -> str | None:
    name = turn.get("role")
    if type(name) is str and name in ROLES:
        return ROLES[name]
    place = f"turn {int(path[1]) + 1}"
    if name is None:
        found.append(Finding(Code.MISSING_ROLE, f"{place} does not say who speaks", path))
        return None
    message = f"the role of {place} is {shortened(name)}"
    meant = _meant(name)
    found.append(
        Finding(
            Code.UNKNOWN_ROLE, message + (f", perhaps {meant}" if meant else ""), (*path, "role")
        )
    )
    return None


def _meant(name: object) -> str | None:
    word = name.strip().lower() if isinstance(name, str) else ""
    return word if word in ROLES else _ALIASES.get(word)


def _content(turn: dict[str, Any], path: Path, found: list[Finding], *, calls: bool) -> str:
    content = turn.get("content")
    if type(content) is str and content and not content.isspace():
        return content
    place = f"turn {int(path[1]) + 1}"
    if content is None:
        if not calls:
            what = "null" if "content" in turn else "missing"
            found.append(Finding(Code.MISSING_CONTENT, f"the content of {place} is {what}", path))
        return ""
    path = (*path, "content")
    if type(content) is list:
        broken = list(_parts(content, path, place))
        found.extend(broken)
        if any(finding.code is Code.CONTENT_NOT_TEXT for finding in broken):
            return ""
    elif type(content) is not str:
        message = f"the content of {place} is {shortened(content)}, not text"
        found.append(Finding(Code.CONTENT_NOT_TEXT, message, path))
        return ""
    text = content_text(content)
    if not calls and not text.strip():
        what = "only white space" if text else "empty"
        found.append(Finding(Code.EMPTY_CONTENT, f"the content of {place} is {what}", path))
    return text


def _is_text_part(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and type(part.get("text")) is str


def _parts(parts: list[Any], path: Path, place: str) -> Iterator[Finding]:
    for number, part in enumerate(parts):
        if not _is_text_part(part):
            kind = part.get("type") if isinstance(part, dict) else part
            message = f"part {number + 1} of {place} is {shortened(kind)}, not a text part"
            yield Finding(Code.CONTENT_NOT_TEXT, message, (*path, number))
            continue
        for key in part.keys() - _PART_KEYS:
            message = f"the key {shortened(key)} of a part of {place} is not used in training"
            yield Finding(Code.UNKNOWN_KEY, message, (*path, number, key))


def _weight(weight: object, role: str | None, path: Path, found: list[Finding]) -> None:
    place = f"turn {int(path[1]) + 1}"
    if role not in ("assistant", None):
        message = f"{place} has a weight and is not the assistant's but the {role}'s"
    elif isinstance(weight, bool) or weight not in (0, 1):
        message = f"the weight of {place} is {shortened(weight)}"
    else:
        return
    found.append(Finding(Code.BAD_WEIGHT, message, (*path, "weight")))


def _order(seen: list[_Seen], found: list[Finding]) -> None:
    """Look at the newest turn beside the one before it."""
    turn, place = seen[-1], len(seen)
    path = ("messages", place - 1)
    if turn.role == "system":
        if place > 1:
            message = f"turn {place} is the system's, after {place - 1} other turns"
            found.append(Finding(Code.SYSTEM_NOT_FIRST, message, path))
        return
    if turn.role == "tool":
        if not _answers_a_call(seen):
            message = f"turn {place} is a tool's, and no tool was called before it"
            found.append(Finding(Code.ROLES_DO_NOT_ALTERNATE, message, path))
        return
    if place > 1 and turn.role is not None and seen[-2].role == turn.role:
        message = f"turns {place - 1} and {place} are both the {turn.role}'s"
        found.append(Finding(Code.ROLES_DO_NOT_ALTERNATE, message, path))


def _answers_a_call(seen: list[_Seen]) -> bool:
    """Tell whether the last turn, a tool's, follows a call with nothing but tools between."""
    for turn in reversed(seen[:-1]):
        if turn.role != "tool":
            # A turn whose role is broken may have been the call.
            return turn.calls or turn.role is None
    return False


def _ending(seen: list[_Seen], found: list[Finding]) -> None:
    answers = [place for place, turn in enumerate(seen) if turn.role == "assistant"]
    broken = any(turn.role is None for turn in seen)
    if not answers:
        if not broken:
            message = "no turn is the assistant's"
            found.append(Finding(Code.NO_ASSISTANT_MESSAGE, message, ("messages",)))
        return
    last = seen[-1]
    if last.role not in ("assistant", None):
        message = f"the last turn, {len(seen)}, is the {last.role}'s"
        path = ("messages", len(seen) - 1)
        found.append(Finding(Code.ENDS_WITHOUT_ASSISTANT, message, path))
    answer = seen[answers[-1]]
    length = len(answer.text.strip())
    if 0 < length < SHORT_ANSWER_CHARACTERS and not answer.calls:
        message = f"the last answer, {shortened(answer.text)}, is {length} characters long"
        path = ("messages", answers[-1], "content")
        found.append(Finding(Code.VERY_SHORT_ANSWER, message, path))


MESSAGES = Messages()
