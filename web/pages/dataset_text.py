"""Rows of a dataset as text to read, alone or word by word beside each other. Makes no HTML.

Keys of known makers are hidden, as in the excerpts of problems: a page is looked over shoulders.
"""

import json
from dataclasses import dataclass
from typing import Any

from app.datasets.formats import FORMATS, mapped
from app.datasets.formats.secrets import masked
from app.datasets.models import DatasetVersion
from app.datasets.reading import Example
from web.words import Piece

SHOWN_CHARACTERS = 4000  # of a turn, and of a row as JSON


@dataclass(frozen=True)
class Turn:
    """A readable turn; ``left`` characters of it are not shown."""

    role: str
    text: str
    left: int


def turns_of(version: DatasetVersion, example: Example) -> tuple[Turn, ...]:
    """Return a row's turns as its format reads them; none where it cannot be read."""
    if not isinstance(example.row, dict):
        return ()
    row: dict[str, Any] = example.row
    taken = FORMATS.get(version.format or "", FORMATS["messages"])
    return tuple(_turn(one.role, one.text) for one in taken.turns(mapped(row, version.mapping)))


def _turn(role: str, text: str) -> Turn:
    return Turn(role, masked(text[:SHOWN_CHARACTERS]), max(0, len(text) - SHOWN_CHARACTERS))


def raw_of(example: Example) -> str:
    """Return a row as it stands in the file, cut to what is shown."""
    text = example.text if example.text is not None else json.dumps(example.row, ensure_ascii=False)
    return masked(text[:SHOWN_CHARACTERS])


def text_of(version: DatasetVersion, example: Example) -> str:
    """Return a row as one text, a turn a line; its JSON where it has no turns."""
    turns = turns_of(version, example)
    return "\n".join(f"{turn.role}: {turn.text}" for turn in turns) or raw_of(example)


@dataclass(frozen=True)
class Beside:
    """A row beside another: their lines, the first one's text, and how the second one differs."""

    line: int | None
    other_line: int | None
    text: str
    pieces: tuple[Piece, ...]
    note: str = ""
