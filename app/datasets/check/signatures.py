"""What a file is that is no dataset, told from its first bytes. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from app.datasets.check.lines import BOM
from app.datasets.containers.header import is_header_alone

HEAD_BYTES = 1 << 20

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"RIFF", "a picture, sound or film"),
    (b"ID3", "a sound"),
    (b"OggS", "a sound or film"),
    (b"%PDF", "a PDF document"),
    (b"{\\rtf", "an RTF document"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Office document or workbook"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x04\x22\x4d\x18", "an LZ4 archive; unpack it first"),
    (b"PARE", "an encrypted Parquet file; write it without encryption"),
    (b"ARROW1", "an Arrow file; write it as Parquet"),
    (b"Obj\x01", "an Avro file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"\xff\xfe\0\0", "text in UTF-32; save it as UTF-8"),
    (b"\0\0\xfe\xff", "text in UTF-32; save it as UTF-8"),
    (b"\xff\xfe", "text in UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16; save it as UTF-8"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file: fetch it with `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer, not the file: fetch it with `git annex get`"),
)
_OFFICE = (
    (b"xl/", "an Excel workbook"),
    (b"word/", "a Word document"),
    (b"ppt/", "a presentation"),
)
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\x0b\x0c\x1b")
_MANY_CONTROLS = 0.05
_TAR = slice(257, 262)  # where tar says what it is
_OF_TURNS = frozenset({"role", "from"})
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Foreign:
    """What a file is instead, the line that shows it, and what to show of it."""

    what: str
    line: int
    excerpt: str
    marked: int


def is_empty(head: bytes) -> bool:
    """Tell whether the whole file is an empty list, or a table's header alone."""
    if len(head) >= HEAD_BYTES:
        return False
    text = head.removeprefix(BOM).strip()
    return bool(re.fullmatch(rb"\[\s*\]", text)) or (bool(text) and is_header_alone(head))


def foreign_file(head: bytes) -> Foreign | None:
    """Return what these first bytes are, or None if they may be rows as text."""
    what = _kind(head)
    if what is None:
        return None
    shown = "".join(char if char.isprintable() else "·" for char in head[:80].decode("latin-1"))
    return Foreign(what, 1, shown, min(8, len(shown)))


def _kind(head: bytes) -> str | None:
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head.startswith(b"PK\x03\x04"):
        return next((name for part, name in _OFFICE if part in head), "a zip archive") + (
            "; unpack or export it first"
        )
    if head[_TAR] == b"ustar":
        return "a tar archive; unpack it first"
    text = head.removeprefix(BOM).lstrip()
    if text[:1] == b"<":
        return "an HTML page" if b"<html" in text[:4096].lower() else "an HTML or XML page"
    if text[1:2] == b"\0":
        return "text in UTF-16; save it as UTF-8"
    return None if text[:1] in (b"{", b"[") else _binary(head[:4096]) or _old_lines(text)


def _binary(head: bytes) -> str | None:
    if head[1:2] == b"\0" or head[:1] == b"\0":
        return "text in UTF-16 or a binary file; save it as UTF-8 text"
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return "a binary file" if controls > _MANY_CONTROLS * len(head) else None


def _old_lines(text: bytes) -> str | None:
    if b"\n" in text or text.count(b"\r", 0, -1) < 1:
        return None
    return "text whose lines end with CR alone, as on old computers; save it with LF line ends"


def is_json_array(head: bytes) -> bool:
    """Tell whether a file is one JSON list of rows; a list as a single row is that row's fault."""
    text = head.removeprefix(BOM).lstrip()
    if text[:1] != b"[":
        return False
    first, _, rest = text.partition(b"\n")
    try:
        items = _decode(first)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return not first[1:].strip() or first[1:].lstrip()[:1] == b"{"
    rows = [item for item in items if isinstance(item, dict)]
    return rest.lstrip()[:1] not in {b"[", b"{"} and any(not row.keys() & _OF_TURNS for row in rows)


def first_rows(head: bytes) -> Iterator[dict[str, Any]]:
    """Yield the first rows that are objects, as far as they stand in ``head``."""
    for piece in head.removeprefix(BOM).split(b"\n")[:200]:
        try:
            row = _decode(piece)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row
