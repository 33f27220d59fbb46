"""A table's header: its separator and its columns, told from the first bytes. Pure."""

import csv
from collections import Counter
from dataclasses import dataclass

from app.datasets.check.lines import BOM

MOST_COLUMNS = 1000
KNOWN = frozenset(
    {"messages", "conversations", "conversation", "prompt", "completion", "response", "label"}
    | {"instruction", "input", "output", "history", "chosen", "rejected", "question", "answer"}
    | {"role", "content", "text", "system", "user", "assistant", "tools"}
)
_ALONE = frozenset({"messages", "conversations", "conversation"})  # enough as the only column
_SEPARATORS = "\t;,"
_LONGEST_NAME = 60
_LONGEST_HEADER = 2**16
_SAMPLE = 50  # records that must fit a header without a known name
_FITTING = 0.8


@dataclass(frozen=True, slots=True)
class Header:
    """The separator and the columns' names as they stand in the first record."""

    separator: str
    names: tuple[str, ...]


def header_of(head: bytes) -> Header | None:
    """Return the header of a table that begins with ``head``, or None if it is none.

    One known column is enough; where no name is known, the records must have as many cells.
    """
    first, rest = _first_line(head)
    if first[:1] in {"", "{", "[", "<"} or len(first) > _LONGEST_HEADER:
        return None
    found = [header for separator in _SEPARATORS if (header := _split(first, separator))]
    known = [header for header in found if _known(header)]
    if known:
        return max(known, key=lambda header: len(header.names))
    if first.strip().strip('"').lower() in _ALONE and rest:
        return Header(",", (first.strip().strip('"'),))
    return next((header for header in found if _fits(header, rest)), None)


def is_header_alone(head: bytes) -> bool:
    """Tell whether a whole file is the header of a table."""
    _, rest = _first_line(head)
    return not rest.strip(b" \r\n") and header_of(head) is not None


def too_wide(head: bytes) -> int | None:
    """Return how many columns a table with too many of them has, as far as ``head`` goes."""
    first, _ = _first_line(head)
    if first[:1] in {"{", "[", "<"}:
        return None
    count = 1 + max(first.count(separator) for separator in _SEPARATORS)
    return count if count > MOST_COLUMNS and len(first) < _LONGEST_NAME * count else None


def _first_line(head: bytes) -> tuple[str, bytes]:
    text = head.removeprefix(BOM).lstrip(b"\r\n")
    first, _, rest = text.partition(b"\n")
    return first.decode("utf-8", "replace").rstrip("\r"), rest


def _split(line: str, separator: str) -> Header | None:
    try:
        names = next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return None
    return Header(separator, tuple(names)) if 1 < len(names) <= MOST_COLUMNS else None


def _known(header: Header) -> bool:
    short = all(len(name) < _LONGEST_NAME for name in header.names)
    return short and bool({name.strip().lower() for name in header.names} & KNOWN)


def _fits(header: Header, rest: bytes) -> bool:
    """Tell whether the records behind a header without a known name look like its table."""
    names = [name.strip() for name in header.names]
    if len(set(names)) < len(names) or not all(0 < len(name) < _LONGEST_NAME for name in names):
        return False
    whole = rest.rpartition(b"\n")[0] or rest
    lines = whole.decode("utf-8", "replace").split("\n")[: 20 * _SAMPLE]
    if not rest.strip() or any(line.lstrip().startswith(("{", "[")) for line in lines):
        return False
    counts: Counter[int] = Counter()
    try:
        for fields in csv.reader((f"{line}\n" for line in lines), delimiter=header.separator):
            counts[len(fields)] += bool(fields)
            if counts.total() == _SAMPLE:
                break
    except csv.Error:
        pass  # what could be read decides
    return counts[len(names)] >= _FITTING * max(1, counts.total())
