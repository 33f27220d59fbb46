"""Where a problem stands in the raw line, and what of the line to show. Pure.

Finds the spot of a path such as ``("messages", 2, "role")`` in JSON text. Keys of known makers and
personal data are hidden in whatever is shown, whichever problem it is shown for.
"""

import json
import re
from collections.abc import Iterator

from app.datasets.formats.base import Finding, Path
from app.datasets.formats.personal import hidden
from app.datasets.formats.secrets import masked

_AROUND = 60  # characters shown on each side of the spot
_LONGEST_MARK = 240
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+', re.DOTALL)
_PICTURES = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}

Spot = tuple[int, int]
Child = tuple[str | int, Spot, Spot]


class Excerpts:
    """Cuts excerpts out of one line of text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._masked: str | None = None
        self._children: dict[int, list[Child]] = {}

    def of(self, finding: Finding) -> tuple[str, int, int]:
        """Return the excerpt of a finding and where its spot starts and ends there."""
        return self.at(*self._spot(finding))

    def at(self, start: int, end: int) -> tuple[str, int, int]:
        """Return the excerpt around a spot and where the spot starts and ends there."""
        text = self._shown()
        end = min(end, start + _LONGEST_MARK, len(text))
        low, high = max(0, start - _AROUND), min(len(text), end + 2 * _AROUND)
        head = "…" if low else ""
        tail = "…" if high < len(text) else ""
        begin = len(head) + start - low
        return head + text[low:high] + tail, begin, begin + end - start

    def _shown(self) -> str:
        if self._masked is None:
            self._masked = hidden(masked(self._text)).translate(_PICTURES)
        return self._masked

    def _spot(self, finding: Finding) -> Spot:
        spot = self._find(finding.path)
        if not finding.needle:
            return spot
        for form in _spellings(finding.needle):
            at = self._text.find(form, *spot)
            if at >= 0:
                return at, at + len(form)
        return spot

    def _find(self, path: Path) -> Spot:
        """Return the spot of a value; of a key that is a text, from the key on.

        Of a path that leads further than the text, the spot of what it leads into.
        """
        start = _first(self._text)
        spot = whole = (start, start)
        place: str | int = 0
        for step in path:
            # Of a key that stands twice, the last one counts, as in the parsed row.
            named = [child for child in self._inside(spot[0]) if child[0] == step]
            if not named:
                break
            place, key, spot = named[-1]
            whole = (key[0], spot[1])
        return whole if isinstance(place, str) else spot

    def _inside(self, start: int) -> list[Child]:
        if start not in self._children:
            self._children[start] = list(_children(self._text, start))
        return self._children[start]


def _spellings(needle: str) -> Iterator[str]:
    """Yield the ways in which JSON may spell a text."""
    yield needle
    yield json.dumps(needle, ensure_ascii=False)[1:-1]
    escaped = json.dumps(needle)[1:-1]
    yield escaped
    yield "".join(f"\\u{ord(char):04X}" for char in needle)
    yield "".join(f"\\u{ord(char):04x}" for char in needle)


def _first(text: str) -> int:
    return len(text) - len(text.lstrip(" \t\r\n"))


def _children(text: str, start: int) -> Iterator[Child]:
    """Yield the name or place, the spot of the key, and of the value of each part."""
    is_object = text[start : start + 1] == "{"
    if not is_object and text[start : start + 1] != "[":
        return
    depth, place = 0, 0
    key: tuple[str, Spot] | None = None
    begin: int | None = None
    for token in _TOKEN.finditer(text, start):
        piece = token.group()
        if piece in "]}" and depth == 1:
            return
        if depth == 1 and piece == ",":
            key, begin, place = None, None, place + 1
        elif depth == 1 and is_object and key is None:
            key = (json.loads(piece), token.span())
        elif depth == 1 and piece != ":" and begin is None:
            begin = token.start()
        depth += (piece in "[{") - (piece in "]}")
        if depth == 1 and begin is not None:
            spot = (begin, token.end())
            if piece != ",":
                yield (key[0], key[1], spot) if key else (place, spot, spot)
