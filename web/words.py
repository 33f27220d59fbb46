"""Two answers word by word: what is missing, what was added. Pure; makes no HTML."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

LONGEST = 2000  # characters that are compared; a page shows no more of an answer

_ALIKE = 0.6  # below it (blanks count as well) a comparison of words is noise

_WORDS = re.compile(r"\s+|[^\s]+")


@dataclass(frozen=True)
class Piece:
    """A stretch of text: ``same``, ``missing`` from the answer, or ``added`` by it."""

    kind: Literal["same", "missing", "added"]
    text: str


def compared(expected: str, answer: str) -> tuple[Piece, ...]:
    """Return ``answer`` in pieces, as it differs from ``expected``; long texts are cut."""
    wanted = _WORDS.findall(expected[:LONGEST])
    given = _WORDS.findall(answer[:LONGEST])
    matcher = SequenceMatcher(None, wanted, given, autojunk=False)
    if given and matcher.ratio() < _ALIKE:
        pieces = [Piece("added", answer[:LONGEST])]
    else:
        pieces = list(_pieces(matcher, wanted, given))
    if len(answer) > LONGEST:
        pieces.append(Piece("same", " …"))
    return tuple(pieces)


def _pieces(matcher: SequenceMatcher[str], wanted: list[str], given: list[str]) -> Iterator[Piece]:
    for kind, from_, to, start, end in matcher.get_opcodes():
        if kind == "equal":
            yield Piece("same", "".join(given[start:end]))
            continue
        if missing := "".join(wanted[from_:to]).strip():
            yield Piece("missing", missing)
            yield Piece("same", " ")
        if added := "".join(given[start:end]):
            yield Piece("added" if added.strip() else "same", added)
