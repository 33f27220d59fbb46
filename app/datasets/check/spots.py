"""Where the parts of a JSON text stand that are asked for by their paths. Pure.

One walk through the text notes them all; what is not asked for is stepped over, so memory grows
with what is asked and not with the text. The text is valid JSON: knows no fault and no finding.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.datasets.formats.base import Path

Spot = tuple[int, int]
_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}]*")
# Strings are taken whole, so that a bracket in one is none.
_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


@dataclass(slots=True)
class _Part:
    """A part that is asked for, or that leads to such: where it was seen, by the last walk."""

    children: "dict[str | int, _Part]" = field(default_factory=dict)
    key: int = -1  # where its key begins, or it itself in a list
    start: int = -1
    end: int = -1
    within: int = -1  # where that begins in which it was seen


@dataclass(slots=True)
class _Level:
    """An object or a list that is being walked through."""

    part: _Part
    is_object: bool
    place: int = 0  # of the next part of a list
    last: int = -1  # place that is asked for


class Spots:
    """The spots of some parts of a text."""

    def __init__(self, text: str, paths: Iterable[Path]) -> None:
        """Walk through a text, and note where the parts at ``paths`` stand."""
        self._text = text
        self._root = _Part()
        for path in paths:
            self._ask(path)
        self._root.start = self._root.end = self._past_space(0)
        if self._root.children:
            self._walk()

    def of(self, path: Path) -> Spot:
        """Return the spot of a value; of a key that is a text, from the key on.

        Of a path that leads further than the text, the spot of what it leads into. ``KeyError``
        where it was not asked for.
        """
        part, place = self._root, None
        for step in path:
            child = part.children[step]
            # Of a key that stands twice, the last one counts, as in the parsed row.
            if child.within != part.start:
                break
            part, place = child, step
        if place is None:
            return self._root.start, self._root.start
        return part.key if isinstance(place, str) else part.start, part.end

    def _ask(self, path: Path) -> None:
        part = self._root
        for step in path:
            part = part.children.setdefault(step, _Part())

    def _walk(self) -> None:
        levels: list[_Level] = []
        at = self._value(self._root.start, self._root, levels)
        while levels:
            level = levels[-1]
            at = self._past_space(at)
            if self._text[at] in "]}":
                at = level.part.end = at + 1
                levels.pop()
            elif self._text[at] == ",":
                at += 1
            elif level.is_object:
                at = self._member(at, level, levels)
            else:
                at = self._element(at, level, levels)

    def _member(self, at: int, level: _Level, levels: list[_Level]) -> int:
        """Take a key and its value; return where to go on."""
        end = self._string_end(at)
        written = self._text[at:end]
        name = json.loads(written) if "\\" in written else written[1:-1]
        value = self._past_space(self._past_space(end) + 1)
        return self._part(value, at, level.part.children.get(name), levels)

    def _element(self, at: int, level: _Level, levels: list[_Level]) -> int:
        place, level.place = level.place, level.place + 1
        if place > level.last:
            return self._closing(at)
        return self._part(at, at, level.part.children.get(place), levels)

    def _part(self, at: int, key: int, part: _Part | None, levels: list[_Level]) -> int:
        """Take a value; return where to go on: behind it, or within it."""
        if part is None:
            return self._behind(at)
        part.key, part.within = key, levels[-1].part.start
        return self._value(at, part, levels)

    def _value(self, at: int, part: _Part, levels: list[_Level]) -> int:
        part.start = at
        if part.children and self._text[at : at + 1] in {"{", "["}:
            places = [step for step in part.children if isinstance(step, int)]
            levels.append(_Level(part, self._text[at] == "{", last=max(places, default=-1)))
            return at + 1
        part.end = self._behind(at)
        return part.end

    def _behind(self, at: int) -> int:
        """Return where the value ends that begins here."""
        if self._text.startswith('"', at):
            return self._string_end(at)
        if self._text[at : at + 1] in {"{", "["}:
            return self._closing(at + 1) + 1
        found = _SCALAR.match(self._text, at)
        return found.end() if found else at

    def _closing(self, at: int) -> int:
        """Return where the bracket stands that closes what ``at`` lies in."""
        depth = 1
        for found in _BRACKET.finditer(self._text, at):
            bracket = self._text[found.start()]
            if bracket in "[{":
                depth += 1
            elif bracket != '"':
                depth -= 1
                if not depth:
                    return found.start()
        return len(self._text) - 1

    def _string_end(self, at: int) -> int:
        found = _STRING.match(self._text, at)
        return found.end() if found else at + 1

    def _past_space(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        return found.end() if found else at
