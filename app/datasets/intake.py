"""What a file is, and how it becomes rows: one JSON object a line, and each row's line number.

Decides from content, never from a name. Knows streams and the disk's free space; no database, no
HTTP, no format of rows, and not what is wrong within a row.
"""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.datasets.containers import CONTAINERS
from app.datasets.containers.base import Container, IsBad, Note
from app.datasets.problems import Code
from app.datasets.signatures import HEAD_BYTES, foreign_file, is_empty

Progress = Callable[[int], None]  # bytes of the file that are read


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a whole file is not taken, the line that shows it, and what to show of it."""

    code: Code
    message: str
    line: int = 1
    excerpt: str = ""
    marked: int = 0


@dataclass(frozen=True, slots=True)
class Identified:
    """What a file is: its container and compression, or why it is not taken."""

    container: str = "jsonl"  # jsonl | json | csv | tsv | parquet
    compression: str | None = None  # gzip | zstd
    refusal: Refusal | None = None

    @property
    def is_plain(self) -> bool:
        """Tell whether the file itself has one row of JSON a line, so that none is made."""
        return self.container == "jsonl" and self.compression is None

    @property
    def kind(self) -> Container:
        """Return what reads and writes this container."""
        return CONTAINERS[self.container]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a packed file may grow to, and the folder whose disk must hold it (None: unchecked)."""

    unpacked_bytes: int = 100 * 2**30
    folder: Path | None = None


def identify(stream: IO[bytes]) -> Identified:
    """Tell what a seekable file is; it is left at its start."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    if is_empty(head):
        return Identified(refusal=Refusal(Code.EMPTY_FILE, "there is no row in this file"))
    foreign = foreign_file(head)
    if foreign is None:
        return Identified()
    refusal = Refusal(
        Code.UNKNOWN_FORMAT,
        f"this is {foreign.what}",
        foreign.line,
        foreign.excerpt,
        foreign.marked,
    )
    return Identified(refusal=refusal)


def convert(
    stream: IO[bytes],
    identified: Identified,
    *,
    rows: IO[bytes],
    lines: IO[bytes],
    progress: Progress = lambda _done: None,
    limits: Limits = Limits(),  # frozen
) -> list[Note]:
    """Write one JSON object a line into ``rows``, and return the problems of the container itself.

    ``lines`` gets a little-endian u64 for each line of ``rows``, blank ones included: the line on
    which it starts in the file. A row that could not be read is a line that
    ``containers.base.fault_of`` explains; it counts as a row. A file that cannot be read at all
    gives a single note of ``unknown_format`` and no row. Raises ``NoSpace``.
    """
    del limits
    notes: list[Note] = []
    numbers = array("Q")
    for item in identified.kind.items(stream):
        if isinstance(item, Note):
            notes.append(item)
        else:
            rows.write(item.data + b"\n")
            numbers.append(item.line)
    lines.write(numbers.tobytes())
    progress(stream.tell())
    return notes


def cleaned(
    stream: IO[bytes],
    identified: Identified,
    is_bad: IsBad,
    limits: Limits = Limits(),  # frozen
) -> Iterator[bytes]:
    """Yield the same container, unpacked, without the rows whose place (from 0) is bad.

    Good rows are kept byte for byte and in order; Parquet is written anew.
    """
    del limits
    yield from identified.kind.cleaned(stream, is_bad)
