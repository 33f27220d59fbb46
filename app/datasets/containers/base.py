"""What a container must be able to do: give its rows one by one, and be written without bad ones.

Pure: knows byte streams, no storage, no format of rows. A row leaves as one line of JSON. One that
could not be read leaves as a *marked* line, which carries what is wrong with it to whoever checks
the rows; no JSON text begins as it does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

import msgspec

from app.datasets.formats.base import Finding
from app.datasets.problems import Code

MARK = b"\0"
LONGEST_EXCERPT = 2000  # characters of a broken row that are kept to be shown
_CODES = frozenset({Code.INVALID_JSON, Code.NOT_UTF8, Code.LINE_TOO_LONG})
IsBad = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Note:
    """A problem of the container itself, on a line as an editor shows it."""

    line: int
    finding: Finding


@dataclass(slots=True)  # not frozen: there are millions
class Item:
    """One row (or blank line): the line on which it starts, and one line of JSON, or marked."""

    line: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a row that could not be read; ``text[start:end]`` is the spot."""

    code: Code
    message: str
    text: str = ""
    start: int = 0
    end: int = 0


class Container(Protocol):
    """A way to keep rows in a file."""

    name: str
    title: str
    media_type: str
    ending: str

    def items(self, stream: IO[bytes]) -> Iterator[Item | Note]:
        """Yield every row in order, in constant memory; broken ones marked."""
        ...

    def cleaned(self, stream: IO[bytes], is_bad: IsBad) -> Iterator[bytes]:
        """Yield the file without the rows whose place (from 0) is bad, else byte for byte."""
        ...


class Refused(Exception):  # an outcome for the user, as in ``app.errors``
    """The whole file cannot be read; the message says what it is and what to do."""


class Interrupted(Exception):
    """A packed stream broke or grew too large at ``line``; what was read before it is good."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def bom_note() -> Note:
    """Return what is said of a byte order mark at the start of a file."""
    return Note(1, Finding(Code.BOM, "the file begins with the bytes EF BB BF"))


def marked(fault: Fault) -> bytes:
    """Return a row that could not be read as one line for the rows file."""
    text = fault.text[:LONGEST_EXCERPT]
    start, end = min(fault.start, len(text)), min(fault.end, len(text))
    return MARK + msgspec.json.encode(Fault(fault.code, fault.message, text, start, end))


def fault_of(data: bytes) -> Fault | None:
    """Return what is wrong with a marked line, or None if ``data`` is none."""
    if not data.startswith(MARK):
        return None
    try:
        fault = msgspec.json.decode(data[len(MARK) :], type=Fault)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return fault if fault.code in _CODES else None
