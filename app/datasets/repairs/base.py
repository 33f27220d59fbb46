"""What a repair is, and a row on its way through the repairs. Pure: knows rows, no files.

A repair changes a row only where its meaning is certain; a row that it does not change stays byte
for byte. Repairs come in the order in which they are made.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.datasets import formats
from app.datasets.check.glance import hash_of
from app.datasets.check.lines import LINE_LIMIT
from app.datasets.check.rows import Broken, parse
from app.datasets.containers.base import fault_of
from app.datasets.formats.base import DatasetFormat, Findings, Path, Row
from app.datasets.problems import CATALOGUE, Code, Severity
from app.datasets.table import HAS_ERROR

NO_HASH = bytes(16)


@dataclass(frozen=True)
class Reading:
    """How a version's rows are read: their format, and our columns → the file's."""

    format: DatasetFormat | None = None
    mapping: dict[str, str] | None = None
    rows: int = 0  # about how many there are


@dataclass(frozen=True, slots=True)
class Known:
    """What the check has noted of a row: the editor's line, its flags and hash."""

    line: int
    flags: int
    hash: bytes


class Draft:
    """One line on its way: what stands there now, and what is known of it.

    ``data`` is None for a row above the limit, which is never looked into.
    """

    def __init__(
        self,
        reading: Reading,
        data: bytes | None,
        *,
        line: int,
        known: Known | None = None,
        has_bom: bool = False,
        is_last: bool = False,
    ) -> None:
        self._reading, self._known = reading, known
        self.data, self.line = data, line
        self.has_bom, self.is_last, self.is_dropped = has_bom, is_last, False
        self._parsed: tuple[object, list[Broken]] | None = None
        self._has_error: bool | None = None  # where the check has noted nothing

    @property
    def mapping(self) -> dict[str, str]:
        """Return our columns → the file's."""
        return self._reading.mapping or {}

    @property
    def is_blank(self) -> bool:
        """Tell whether there is nothing on this line, and so no row."""
        return self.data is not None and not self.data.strip(b" \t\r")

    @property
    def is_unreadable(self) -> bool:
        """Tell whether this stands for a row that another container held and nobody could read."""
        return self.data is not None and fault_of(self.data) is not None

    @property
    def is_flawless(self) -> bool:
        """Tell whether the check found nothing at all in this row by itself."""
        return self._known is not None and not self._known.flags

    @property
    def has_error(self) -> bool:
        """Tell whether the row cannot be trained as it is now."""
        if self._known is not None:
            return bool(self._known.flags & HAS_ERROR)
        if self.data is None or len(self.data) > LINE_LIMIT or self.faults or self.row is None:
            return True
        if self._has_error is None:
            counts = self._found(keep=()).counts
            self._has_error = any(map(_is_error, counts))
        return self._has_error

    @property
    def faults(self) -> list[Broken]:
        """Return why the line is no JSON, if it is none."""
        return self._value()[1]

    @property
    def row(self) -> Row | None:
        """Return the row with our names for its columns, or None if it is no object."""
        value, _ = self._value()
        return formats.mapped(value, self._reading.mapping) if isinstance(value, dict) else None

    @property
    def hash(self) -> bytes:
        """Return 128 bits over the row as it is now, zeros if it is none."""
        if self._known is not None:
            return self._known.hash
        row = self.row
        return NO_HASH if row is None or self.data is None else hash_of(dict(row), self.data)

    @property
    def format(self) -> DatasetFormat:
        """Return the format to which the row is held."""
        return self._reading.format or formats.MESSAGES

    def places(self, *codes: Code) -> list[Path]:
        """Return where each of the row's faults of these codes stands, with our names."""
        return [finding.path for finding in self._found(keep=codes)]

    def _found(self, *, keep: Sequence[Code]) -> Findings:
        """Return every fault of the row, but those of its text; with our names in the paths."""
        found = Findings(lambda code: sys.maxsize if code in keep else 0)
        row = self.row
        return found if row is None else formats.findings(row, self._reading.format, found)

    def replace(self, data: bytes) -> None:
        """Write the row anew."""
        self.data, self._known, self._parsed, self._has_error = data, None, None, None

    def drop(self) -> None:
        """Leave the row out."""
        self.is_dropped = True

    def _value(self) -> tuple[object, list[Broken]]:
        if self._parsed is None:
            self._parsed = (None, []) if self.data is None else parse(self.data)
        return self._parsed


def _is_error(code: Code) -> bool:
    return CATALOGUE[code].severity is Severity.ERROR


Step = Callable[[Draft], None]


@dataclass(frozen=True)
class Repair:
    """A repair: its name, what it does in plain words, and the problems that it can end.

    ``begin`` returns what is done to each line in turn, in one pass over about so many rows.
    ``counts_rows`` tells that those problems are as many as the rows it changes or drops.
    """

    name: str
    title: str
    what: str
    codes: tuple[Code, ...]
    begin: Callable[[int], Step]
    counts_rows: bool = False


def plain(step: Step) -> Callable[[int], Step]:
    """Return how a step begins that remembers nothing from row to row."""
    return lambda _: step
