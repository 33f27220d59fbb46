"""Where strings stand in a row's raw JSON, and how they are replaced there. Pure.

All that is not replaced stays as it is written, byte for byte: spaces, escapes, the order of keys.
Takes valid JSON only.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from app.datasets.formats.base import Path

Edit = tuple[int, int, str]  # what stands from start to end becomes this
Find = Callable[[str, Path], Sequence[Edit]]

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:,]')
_UNIT = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]",
    re.DOTALL,
)
_decode = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class Spot:
    """One string with its quotes: the path of the value, or of the key with the key last."""

    path: Path
    is_key: bool
    start: int
    end: int


def string_spots(text: str) -> Iterator[Spot]:
    """Yield each string of a row in the order of its text."""
    path: list[str | int] = []
    objects: list[bool] = []
    expects_key = False
    for token in _TOKEN.finditer(text):
        sign = text[token.start()]
        if sign == '"':
            if expects_key:
                path[-1] = _decode(token.group())
            yield Spot(tuple(path), expects_key, *token.span())
        elif sign in "{[":
            expects_key = sign == "{"
            objects.append(expects_key)
            path.append("" if expects_key else 0)
        elif sign in "}]":
            objects.pop()
            path.pop()
            expects_key = False
        elif sign == ":":
            expects_key = False
        elif objects[-1]:
            expects_key = True
        else:
            path[-1] = int(path[-1]) + 1


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return ``text`` with each edit made; they must not overlap."""
    pieces: list[str] = []
    done = 0
    for start, end, new in sorted(edits):
        pieces += [text[done:start], new]
        done = end
    return "".join([*pieces, text[done:]])


def with_strings(text: str, values: dict[Path, str], keys: dict[Path, str]) -> str:
    """Return a row with new strings at some paths, and new names for the keys at others.

    Of a key that stands twice the last one counts, as in the parsed row.
    """
    found: dict[tuple[bool, Path], Spot] = {}
    for spot in string_spots(text):
        if spot.path in (keys if spot.is_key else values):
            found[spot.is_key, spot.path] = spot
    return edited(
        text,
        (
            (spot.start, spot.end, json.dumps((keys if is_key else values)[path]))
            for (is_key, path), spot in found.items()
        ),
    )


def within_strings(text: str, find: Find) -> str:
    """Return a row with parts of its values replaced, as ``find`` says of each decoded string.

    Replacements must need no escape. Keys stay.
    """
    edits: list[Edit] = []
    for spot in string_spots(text):
        if spot.is_key:
            continue
        raw = text[spot.start + 1 : spot.end - 1]
        wanted = find(_decode(text[spot.start : spot.end]) if "\\" in raw else raw, spot.path)
        if wanted:
            at = _offsets(raw)
            first = spot.start + 1
            edits += [(first + at[start], first + at[end], new) for start, end, new in wanted]
    return edited(text, edits) if edits else text


def _offsets(raw: str) -> Sequence[int]:
    """Return where each character of a string stands in its raw form, and where the last ends."""
    if "\\" not in raw:
        return range(len(raw) + 1)
    return [*(unit.start() for unit in _UNIT.finditer(raw)), len(raw)]
