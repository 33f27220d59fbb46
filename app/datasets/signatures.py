"""What a file is that is no chat JSONL, told from its first bytes. Pure."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from app.datasets.formats import recognised
from app.datasets.lines import BOM

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
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x04\x22\x4d\x18", "an LZ4 archive; unpack it first"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
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
_COLUMNS = frozenset(
    [
        "messages",
        "conversations",
        "prompt",
        "completion",
        "instruction",
        "output",
        "input",
        "chosen",
        "rejected",
        "question",
        "answer",
        "response",
        "role",
        "content",
        "text",
        "system",
        "user",
        "assistant",
        "label",
    ]
)
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\x0b\x0c\x1b")
_MANY_CONTROLS = 0.05
_LONGEST_HEADER = 4096
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Foreign:
    """What a file is instead, the line that shows it, and what to show of it."""

    what: str
    line: int
    excerpt: str
    marked: int


def is_empty(head: bytes) -> bool:
    """Tell whether the whole file is a BOM, an empty list, or a table's header alone."""
    if len(head) >= HEAD_BYTES:
        return False
    text = head.removeprefix(BOM).strip()
    if re.fullmatch(rb"\[\s*\]", text):
        return True
    return bool(text) and b"\n" not in text and _columns(text) is not None


def foreign_file(head: bytes) -> Foreign | None:
    """Return what these first bytes are, or None if they may be JSON Lines."""
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
    text = head.removeprefix(BOM).lstrip()
    if text[:1] == b"<":
        return "an HTML page" if b"<html" in text[:4096].lower() else "an HTML or XML page"
    if text[:1] not in (b"{", b"["):
        return _binary(head[:4096]) or _table(text)
    if text[1:2] == b"\0":
        return "text in UTF-16; save it as UTF-8"
    return _json_array(text) if text[:1] == b"[" else None


def _binary(head: bytes) -> str | None:
    if head[1:2] == b"\0" or head[:1] == b"\0":
        return "text in UTF-16 or a binary file; save it as UTF-8 text"
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return "a binary file" if controls > _MANY_CONTROLS * len(head) else None


def _columns(line: bytes) -> list[str] | None:
    """Return the column names if ``line`` is the header of a table of examples."""
    text = line.decode("utf-8", "replace").strip()
    if len(text) > _LONGEST_HEADER or text[:1] in {"{", "["}:
        return None
    for separator in "\t;,":
        try:
            names = next(csv.reader([text], delimiter=separator), [])
        except csv.Error:
            return None
        known = {name.strip().lower() for name in names} & _COLUMNS
        if len(names) > 1 and known and all(len(name) < 60 for name in names):  # noqa: PLR2004
            return names
    return None


def _table(text: bytes) -> str | None:
    first, _, rest = text.partition(b"\n")
    names = _columns(first) if rest else None
    return f"a table (CSV or TSV) with the columns {', '.join(names[:4])}" if names else None


def _json_array(text: bytes) -> str | None:
    """A list of rows instead of one row a line; a list as a single row is that row's problem."""
    first, _, rest = text.partition(b"\n")
    inside = first[1:].lstrip() or rest.lstrip()
    if inside[:1] != b"{":
        return None
    what = "a JSON list; write one row a line, without the outer brackets"
    try:
        items = _decode(first)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return what
    rows = [item for item in items if isinstance(item, dict)]
    return what if not rest.strip() and any(recognised(row) for row in rows) else None


def first_rows(head: bytes) -> Iterator[dict[str, Any]]:
    """Yield the first rows that are objects, as far as they stand in ``head``."""
    for piece in head.removeprefix(BOM).split(b"\n")[:200]:
        try:
            row = _decode(piece)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row
