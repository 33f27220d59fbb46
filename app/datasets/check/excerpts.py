"""Where a problem stands in the raw line, and what of the line to show. Pure.

Finds the spots of paths such as ``("messages", 2, "role")`` in JSON text, all in one walk through
it: a row of 16 MiB may have millions of parts, and only those asked for are noted. Keys of known
makers and personal data are hidden in whatever is shown, whichever problem it is shown for.
"""

import json
from collections.abc import Iterable, Iterator

from app.datasets.check.spots import Spot, Spots
from app.datasets.formats.base import Finding, Path
from app.datasets.formats.personal import hidden
from app.datasets.formats.secrets import masked

_AROUND = 60  # characters shown on each side of the spot
_LONGEST_MARK = 240
_PICTURES = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}
_MISSED = 100  # texts that are spelt so oddly that no other is looked for within its part


class Excerpts:
    """Cuts excerpts out of one line of text."""

    def __init__(self, text: str, paths: Iterable[Path] = ()) -> None:
        """Take a line, and the paths in it that will be asked for."""
        self._text = text
        self._masked: str | None = None
        self._spots = Spots(text, paths)
        self._missed = 0

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
        spot = self._spots.of(finding.path)
        if not finding.needle or self._missed > _MISSED:
            return spot
        for form in _spellings(finding.needle):
            at = self._text.find(form, *spot)
            if at >= 0:
                return at, at + len(form)
        self._missed += 1
        return spot


def _spellings(needle: str) -> Iterator[str]:
    """Yield the ways in which JSON may spell a text."""
    yield needle
    yield json.dumps(needle, ensure_ascii=False)[1:-1]
    escaped = json.dumps(needle)[1:-1]
    yield escaped
    yield "".join(f"\\u{ord(char):04X}" for char in needle)
    yield "".join(f"\\u{ord(char):04x}" for char in needle)
