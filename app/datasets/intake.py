"""What a file is, and how it becomes rows: one JSON object a line, and each row's line number.

Decides from content, never from a name. Knows streams and the disk's free space; no database, no
HTTP, no format of rows, and not what is wrong within a row.
"""

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, cast

from app.datasets.check.signatures import HEAD_BYTES, foreign_file, is_empty, is_json_array
from app.datasets.containers import CONTAINERS, PARQUET
from app.datasets.containers.base import Container, Interrupted, IsBad, Note, Refused
from app.datasets.containers.header import MOST_COLUMNS, header_of, too_wide
from app.datasets.containers.packing import Limits, Unpacked, packing_of
from app.datasets.containers.parquet import MAGIC, row_count
from app.datasets.formats.base import Finding
from app.datasets.problems import Code
from app.kit.storage import require_space
from app.settings import Settings

__all__ = [
    "Identified",
    "Limits",
    "Refusal",
    "cleaned",
    "convert",
    "first_look",
    "identify",
    "limits_of",
]

Progress = Callable[[int], None]  # bytes of the file that are read
USUAL = Limits()
_AT_ONCE = 2**20
_IN_MEMORY = 16 * 2**20
_SPACE_STEP = 64 * 2**20  # so often the disk is looked at
_SHORTEST = 4  # bytes of which anything can be told
_NO_ROW = "there is no row in this file"


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


def limits_of(settings: Settings) -> Limits:
    """Return what files may grow to on this Tunebox."""
    return Limits(unpacked_bytes=settings.max_unpacked_bytes, folder=settings.data_folder)


def identify(stream: IO[bytes]) -> Identified:
    """Tell what a seekable file is; it is left at its start."""
    stream.seek(0)
    try:
        found, head = _told(stream)
        if found.container == PARQUET and found.compression is None and row_count(stream) == 0:
            return Identified(PARQUET, refusal=Refusal(Code.EMPTY_FILE, _NO_ROW))
        if found.refusal is None and (is_empty(head) or (found.compression and not head)):
            return replace(found, refusal=Refusal(Code.EMPTY_FILE, _NO_ROW))
        return found
    except Interrupted as error:
        return Identified(refusal=Refusal(Code.UNKNOWN_FORMAT, str(error)))
    except Refused as error:
        return Identified(refusal=Refusal(Code.UNKNOWN_FORMAT, f"this is {error}"))
    finally:
        stream.seek(0)


def first_look(stream: IO[bytes]) -> Refusal | None:
    """Return why a file is not taken as far as its first bytes show it; the rest may be missing."""
    if len(stream.read(_SHORTEST)) < _SHORTEST:
        return None
    stream.seek(0)
    try:
        return _told(stream)[0].refusal
    except Interrupted:
        return None


def _told(stream: IO[bytes]) -> tuple[Identified, bytes]:
    """Return what the first bytes show, and those bytes unpacked; raises ``Interrupted``."""
    head = stream.read(HEAD_BYTES)
    packing = packing_of(head)
    if packing is None:
        return _by_head(head), head
    stream.seek(0)
    head = _head(Unpacked(stream, packing, USUAL))
    inner = packing_of(head)
    if inner:
        what = f"a {inner} archive within a {packing} archive; pack the file only once"
        return Identified(refusal=Refusal(Code.UNKNOWN_FORMAT, f"this is {what}")), head
    return replace(_by_head(head), compression=packing), head


def _head(unpacked: Unpacked) -> bytes:
    """Return the first bytes of a packed file; raises ``Interrupted`` if there are none to read."""
    parts: list[bytes] = []
    while unpacked.unpacked < HEAD_BYTES:
        try:
            part = unpacked.read(HEAD_BYTES - unpacked.unpacked)
        except Interrupted:
            if parts:
                break  # what comes before is still read
            raise
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _by_head(head: bytes) -> Identified:
    if head.startswith(MAGIC):
        return Identified(PARQUET)
    foreign = foreign_file(head)
    if foreign is not None:
        message = f"this is {foreign.what}"
        refusal = Refusal(
            Code.UNKNOWN_FORMAT, message, foreign.line, foreign.excerpt, foreign.marked
        )
        return Identified(refusal=refusal)
    if is_json_array(head):
        return Identified("json")
    if columns := too_wide(head):
        message = (
            f"this is a table with {columns:,} columns or more; {MOST_COLUMNS:,} are the most: "
            "keep those that are examples"
        )
        return Identified("csv", refusal=Refusal(Code.UNKNOWN_FORMAT, message))
    header = header_of(head)
    if header is None:
        return Identified()
    return Identified("tsv" if header.separator == "\t" else "csv")


def convert(
    stream: IO[bytes],
    identified: Identified,
    *,
    rows: IO[bytes],
    lines: IO[bytes],
    progress: Progress = lambda _done: None,
    limits: Limits = USUAL,
) -> list[Note]:
    """Write one JSON object a line into ``rows``, and return the problems of the container itself.

    ``lines`` gets a little-endian u64 for each line of ``rows``, blank ones included: the line on
    which it starts in the file. A row that could not be read is a line that
    ``containers.base.fault_of`` explains; it counts as a row. A file that cannot be read at all
    gives a single note of ``unknown_format`` and no row. Raises ``NoSpace``.
    """
    notes: list[Note] = []
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    reached = stream.tell if identified.compression else lambda: size
    writer = _Writer(rows, lines, limits=limits, reached=reached)
    try:
        with _unpacked(stream, identified, limits) as source:
            for item in identified.kind.items(source):
                if isinstance(item, Note):
                    notes.append(item)
                elif writer.add(item.line, item.data):
                    progress(stream.tell())
    except Interrupted as error:
        notes.append(Note(error.line, Finding(Code.INVALID_JSON, str(error))))
    except Refused as error:
        notes = [Note(1, Finding(Code.UNKNOWN_FORMAT, f"this is {error}"))]
    writer.flush()
    return notes


class _Writer:
    """Writes rows and their line numbers, within limits."""

    def __init__(
        self, rows: IO[bytes], lines: IO[bytes], *, limits: Limits, reached: Callable[[], int]
    ) -> None:
        self._rows, self._lines = rows, lines
        self._limits, self._reached = limits, reached  # how far the file is read, in bytes
        self._held, self._numbers = bytearray(), array("Q")
        self._written = self._looked_at = 0

    def add(self, line: int, data: bytes) -> bool:
        """Take one line, and tell whether a good many were written.

        Raises ``Interrupted`` where the rows outgrow the limits.
        """
        self._held += data
        self._held += b"\n"
        self._numbers.append(line)
        if len(self._held) < _AT_ONCE:
            return False
        self.flush()
        excess = self._limits.excess(read=self._reached(), made=self._written)
        if excess:
            raise Interrupted(line, f"the file cannot be read on: {excess}")
        return True

    def flush(self) -> None:
        """Write what is held; raises ``NoSpace`` before the disk is full."""
        folder = self._limits.folder
        if folder is not None and self._written >= self._looked_at:
            require_space(folder, _SPACE_STEP)
            self._looked_at = self._written + _SPACE_STEP // 2
        self._rows.write(bytes(self._held))
        self._lines.write(self._numbers.tobytes())
        self._written += len(self._held)
        self._held.clear()
        del self._numbers[:]


@contextmanager
def _unpacked(stream: IO[bytes], identified: Identified, limits: Limits) -> Iterator[IO[bytes]]:
    """Give the container's own bytes; Parquet's seekable, through a temporary file."""
    if identified.compression is None:
        yield stream
        return
    unpacked = cast("IO[bytes]", Unpacked(stream, identified.compression, limits))
    if identified.container != PARQUET:
        yield unpacked
        return
    folder = str(limits.folder) if limits.folder else None
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder) as file:
        try:
            _copy(unpacked, cast("IO[bytes]", file), limits)
        except Interrupted as error:
            raise Refused(f"a packed Parquet file that cannot be read whole: {error}") from error
        file.seek(0)
        yield cast("IO[bytes]", file)


def _copy(source: IO[bytes], target: IO[bytes], limits: Limits) -> None:
    size = looked_at = 0
    while chunk := source.read(_AT_ONCE):
        size += len(chunk)
        if limits.folder is not None and size >= looked_at:
            require_space(limits.folder, _SPACE_STEP)
            looked_at = size + _SPACE_STEP // 2
        target.write(chunk)


def cleaned(
    stream: IO[bytes],
    identified: Identified,
    is_bad: IsBad,
    limits: Limits = USUAL,
) -> Iterator[bytes]:
    """Yield the same container, unpacked, without the rows whose place (from 0) is bad.

    Good rows are kept byte for byte and in order; Parquet is written anew.
    """
    stream.seek(0)
    with _unpacked(stream, identified, limits) as source:
        try:
            yield from identified.kind.cleaned(source, is_bad)
        except Interrupted:
            return  # what came before the break is the file
