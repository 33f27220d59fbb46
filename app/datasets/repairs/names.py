"""Repairs of names: who speaks in a turn, and under which keys its parts stand. Pure.

What is wrong is asked of the row's format; a name is changed only where one other can be meant.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.datasets.formats.base import Path, Row
from app.datasets.formats.wording import OPENAI, SHAREGPT
from app.datasets.problems import Code
from app.datasets.repairs.base import Draft, Repair, plain
from app.datasets.repairs.spelling import means
from app.datasets.repairs.spots import with_strings

_USER = {"human": "user", "prompter": "user"}
_ASSISTANT = dict.fromkeys(
    ("gpt", "bot", "ai", "chatgpt", "chatbot", "model", "llm", "bard", "bing"), "assistant"
)
_TOOL = dict.fromkeys(
    ("observation", "ipython", "toolresponse", "functionresponse", "toolresult"), "tool"
)
_ALIASES = {**_USER, **_ASSISTANT, **_TOOL}
# In rows with `from`, the names that ShareGPT itself has for them.
_IN_SHAREGPT = {"user": "human", "assistant": "gpt", "tool": "observation"}

_ROLE_KEYS = ("from", "speaker", "author", "sender")
_CONTENT_KEYS = ("value", "text", "message")
_LIST_KEYS = ("msgs", "dialog", "dialogue", "chat", "turns")
_COLUMN_KEYS: Mapping[str, tuple[str, ...]] = {
    "messages": _LIST_KEYS,
    "conversations": (*_LIST_KEYS, "messages"),
    "prompt": ("question",),
    "completion": ("response", "answer"),
    "output": ("response", "answer"),
}
_LISTS = frozenset({"messages", "conversations"})
_ROUNDS = 3  # a list that got its name shows what its turns lack

Renames = dict[Path, str]


def role_meant(name: object, key: str = "role") -> str | None:
    """Return the role that a turn's ``name`` under ``key`` must mean, or None if that is open."""
    if not isinstance(name, str):
        return None
    word = "".join(char for char in name.lower() if char.isalnum() or char == "_")
    taken = SHAREGPT if key == "from" else OPENAI
    if word in taken.roles:
        return word
    ours = _ALIASES.get(word.replace("_", "")) or _slip(word)
    return _IN_SHAREGPT.get(ours, ours) if ours and key == "from" else ours


def _slip(word: str) -> str | None:
    return next((role for role in ("assistant", "system") if means(word, role)), None)


def _role_names(draft: Draft) -> None:
    row = None if draft.is_flawless else draft.row
    if row is None or not draft.has_error:
        return
    values: Renames = {}
    for path in draft.places(Code.UNKNOWN_ROLE):
        meant = role_meant(_at(row, path), str(path[-1]))
        if meant is not None:
            values[_in_file(draft, path)] = meant
    if values:
        _write(draft, values, {})


def _key_names(draft: Draft) -> None:
    for _ in range(_ROUNDS):
        row = None if draft.is_flawless else draft.row
        if row is None or not draft.has_error:
            return
        keys = dict(_renames(draft, row))
        if not keys:
            return
        _write(draft, {}, keys)


def _renames(draft: Draft, row: Row) -> Iterator[tuple[Path, str]]:
    """Yield the paths of keys, as in the file, and what each must be called."""
    names = {column.name for column in draft.format.columns}
    wanting = [column.name for column in draft.format.columns if column.required]
    for name in wanting:
        if name not in row and not _is_answered_otherwise(row, name):
            key = _only(
                key for key, value in row.items() if key not in names and _may_be(key, value, name)
            )
            if key is not None:
                yield (key,), draft.mapping.get(name, name)
    for path in set(draft.places(Code.MISSING_ROLE, Code.MISSING_CONTENT)):
        turn = _at(row, path)
        if path and isinstance(turn, dict):
            for key, meant in _turn_renames(turn, path):
                yield (*_in_file(draft, path), key), meant


def _is_answered_otherwise(row: Row, name: str) -> bool:
    """Tell whether a column is not missed: one that stands for it is there."""
    return (name == "conversations" and "conversation" in row) or (
        name in {"chosen", "rejected"} and "label" in row
    )


def _may_be(key: str, value: object, name: str) -> bool:
    fits = any(means(key, known) for known in (name, *_COLUMN_KEYS.get(name, ())))
    return fits and (_is_talk(value) if name in _LISTS else bool(value))


def _is_talk(value: object) -> bool:
    """Tell whether a value is a list of turns, whatever their keys are called."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and _speaks(turn) for turn in value)
    )


def _speaks(turn: Mapping[str, Any]) -> bool:
    return any(
        role_meant(value, "from") is not None for key, value in turn.items() if _names_a_role(key)
    )


def _names_a_role(key: str) -> bool:
    return any(means(key, known) for known in ("role", *_ROLE_KEYS))


def _turn_renames(turn: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """Yield the keys of a turn that have another name, and the one they must have."""
    sharegpt = path[0] in {"conversations", "conversation"}
    roles, contents = ("from", "role"), ("value", "content")
    if not sharegpt:
        roles, contents = ("role",), ("content",)
    paired = sharegpt and "role" not in turn and "content" not in turn
    if not any(key in turn for key in roles):
        key = _only(
            key
            for key, value in turn.items()
            if _names_a_role(key) and role_meant(value, "from") is not None
        )
        if key is not None:
            yield key, "from" if paired else "role"
    if not any(key in turn for key in contents):
        key = _only(
            key
            for key, value in turn.items()
            if any(means(key, known) for known in ("content", *_CONTENT_KEYS))
            and isinstance(value, str | list)
        )
        if key is not None:
            yield key, "value" if paired else "content"


def _only(keys: Iterable[str]) -> str | None:
    """Return the one key, or None if there are none or several that may be meant."""
    found = list(keys)
    return found[0] if len(found) == 1 else None


def _at(row: object, path: Path) -> Any:
    """Return the value at ``path``, or None if there is none."""
    for step in path:
        try:
            row = row[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return row


def _in_file(draft: Draft, path: Path) -> Path:
    return (draft.mapping.get(str(path[0]), path[0]), *path[1:])


def _write(draft: Draft, values: Renames, keys: Renames) -> None:
    if draft.data is not None and not draft.faults:
        draft.replace(with_strings(draft.data.decode(), values, keys).encode())


ROLE_NAMES = Repair(
    "role_names",
    "Correct role names",
    "Writes human, gpt, bot and the like, and capitals, as user, assistant, system or tool.",
    (Code.UNKNOWN_ROLE,),
    plain(_role_names),
)
KEY_NAMES = Repair(
    "key_names",
    "Correct key names",
    "Gives keys that are misspelt or have another usual name the one that is read: "
    "message becomes messages, and text becomes content.",
    (Code.MISSING_MESSAGES, Code.MISSING_ROLE, Code.MISSING_CONTENT, Code.MISSING_COLUMN),
    plain(_key_names),
)
