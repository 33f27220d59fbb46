"""The files of a version: as uploaded, cleaned, and single rows from a line on.

Reads the storage; knows no query, no HTTP and nothing of how problems are found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import msgspec

from app.datasets.lines import BOM, lines
from app.datasets.models import DatasetVersion
from app.kit.storage import Storage

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


def bad_lines_key(version: DatasetVersion) -> str:
    """Return where the numbers of a version's bad lines are kept, one a line."""
    return f"datasets/{version.id}/bad_lines"


def cleaned(stream: IO[bytes], bad_lines: set[int]) -> Iterator[bytes]:
    """Yield the good rows byte for byte, in order: no bad rows, blank lines or BOM."""
    for line in lines(stream):
        if line.number in bad_lines or line.data is None:
            continue
        data = line.data.removeprefix(BOM) if line.number == 1 else line.data
        if data.strip(b" \t\r"):
            yield data + line.ending


def bad_lines(storage: Storage, version: DatasetVersion) -> tuple[int, ...]:
    """Return the numbers of all lines with errors, in order."""
    if not version.bad_rows:
        return ()
    with storage.open(bad_lines_key(version)) as source:
        return tuple(int(line) for line in source.read().split())


def cleaned_file(storage: Storage, version: DatasetVersion) -> Iterator[bytes]:
    """Yield the version without its bad rows, blank lines and BOM, byte for byte else."""
    skip = set(bad_lines(storage, version))
    with storage.open(version.storage_key) as stream:
        yield from cleaned(stream, skip)


def original_file(storage: Storage, version: DatasetVersion) -> Iterator[bytes]:
    """Yield the version as it was uploaded."""
    with storage.open(version.storage_key) as stream:
        while chunk := stream.read(2**20):
            yield chunk
