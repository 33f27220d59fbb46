"""Rows of a version as they stand in its file, from a line on. No database, no HTTP."""

from dataclasses import dataclass
from typing import IO, Any

import msgspec

from app.datasets.lines import BOM, lines

_LONGEST_SHOWN = 200_000  # characters of a row that is shown as text


@dataclass(frozen=True)
class Example:
    """A row: its line, the parsed JSON, or its text where it is none."""

    line: int
    row: Any
    text: str | None


def examples(stream: IO[bytes], *, first: int, limit: int) -> tuple[list[Example], int | None]:
    """Return up to ``limit`` rows from line ``first`` on, and the next row's line or None.

    Blank lines are passed over. The file is read from its start up to there.
    """
    found: list[Example] = []
    for line in lines(stream):
        if line.number < first or line.is_blank:
            continue
        if len(found) == limit:
            return found, line.number
        found.append(_example(line.number, line.data))
    return found, None


def _example(number: int, data: bytes | None) -> Example:
    if data is None:
        return Example(number, None, "This row is longer than 16 MiB.")
    data = data.removeprefix(BOM) if number == 1 else data
    try:
        return Example(number, msgspec.json.decode(data), None)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Example(number, None, data[:_LONGEST_SHOWN].decode("utf-8", "replace"))
