"""The files of a version: its rows by place or by line, as uploaded, and cleaned.

Reads the storage through the table that the check wrote; knows no query, no HTTP and nothing of
how problems are found.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from app.datasets import intake
from app.datasets.check.lines import LINE_LIMIT
from app.datasets.check.rows import parse
from app.datasets.containers import CONTAINERS
from app.datasets.containers.base import fault_of
from app.datasets.formats import FORMATS, mapped
from app.datasets.formats.base import DatasetFormat, Row, Turn
from app.datasets.intake import Limits
from app.datasets.models import DatasetVersion
from app.datasets.table import HAS_ERROR, RowPlace, TableReader, as_places
from app.errors import Conflict
from app.kit.storage import Storage

_LONGEST_SHOWN = 200_000  # characters of a row that is shown as text
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Example:
    """A row: its line, the parsed JSON as it stands in the file, or its text if it is none."""

    line: int
    row: Any
    text: str | None


class Rows:
    """Opened rows with their table; ``Rows.open`` opens those of a checked version.

    A row's place is its number from 0 in the file's order; lines are what users see.
    """

    def __init__(
        self,
        stream: IO[bytes],
        table: TableReader,
        *,
        format_name: str | None,
        mapping: Mapping[str, str] | None,
        is_plain: bool = True,
    ) -> None:
        self.table = table
        self.format: DatasetFormat | None = FORMATS.get(format_name or "")
        self._stream, self._mapping, self._is_plain = stream, mapping, is_plain

    @staticmethod
    @contextmanager
    def open(storage: Storage, version: DatasetVersion) -> Iterator["Rows"]:
        """Open a version's rows; ``Conflict`` where its check has not written their table yet."""
        _require_table(storage, version)
        with storage.open(version.rows_key) as stream, storage.open(version.table_key) as table:
            yield Rows(
                stream,
                TableReader(table),
                format_name=version.format,
                mapping=version.mapping,
                is_plain=version.is_plain,
            )

    def __len__(self) -> int:
        return len(self.table)

    def place(self, number: int) -> RowPlace:
        """Return where row ``number`` lies; ``IndexError`` where there is none."""
        return self.table.row(number)

    def from_line(self, line: int, limit: int) -> list[RowPlace]:
        """Return up to ``limit`` rows from the one on ``line``, or the next behind it, on."""
        return self.table.rows(self.table.place_of_line(line), limit)

    def data(self, place: RowPlace) -> bytes:
        """Return a row's bytes without its line's ending; of one above 16 MiB its start."""
        return self.read(place.offset, min(place.size, LINE_LIMIT))

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of the rows file from ``offset`` on."""
        self._stream.seek(offset)
        return self._stream.read(size)

    def row(self, place: RowPlace) -> Row | None:
        """Return a row with our names for its columns, or None if it is no JSON object."""
        if place.size > LINE_LIMIT:
            return None
        value, _ = parse(self.data(place))
        return mapped(value, self._mapping) if type(value) is dict else None

    def turns(self, place: RowPlace) -> Sequence[Turn]:
        """Return the readable turns of a row."""
        row = self.row(place)
        return [] if row is None or self.format is None else self.format.turns(row)

    def conversations(
        self, places: Iterable[int] | None = None
    ) -> Iterator[tuple[RowPlace, list[dict[str, Any]]]]:
        """Yield what a chat template gets of each good row, of all or of those at ``places``.

        Rows with errors, and rows that are not one conversation, are passed over.
        """
        if self.format is None:
            return
        for place, row in self.good(places):
            turns = self.format.conversation(row)
            if turns is not None:
                yield place, turns

    def good(self, places: Iterable[int] | None = None) -> Iterator[tuple[RowPlace, Row]]:
        """Yield each row without errors, of all or of those at ``places``."""
        for place in self._all() if places is None else map(self.place, places):
            row = self.row(place) if place.is_good else None
            if row is not None:
                yield place, row

    def _all(self) -> Iterator[RowPlace]:
        for first, records in self.table.blocks(_ROWS_AT_ONCE):
            yield from as_places(first, records)

    def example(self, place: RowPlace) -> Example:
        """Return a row as it stands in the file, to be shown."""
        if place.size > LINE_LIMIT:
            return Example(place.line, None, "This row is longer than 16 MiB.")
        data = self.data(place)
        fault = None if self._is_plain else fault_of(data)
        if fault is not None:
            return Example(place.line, None, fault.text or fault.message)
        value, faults = parse(data)
        if not faults:
            return Example(place.line, value, None)
        return Example(place.line, None, data[:_LONGEST_SHOWN].decode("utf-8", "replace"))


def _require_table(storage: Storage, version: DatasetVersion) -> None:
    if not storage.exists(version.table_key):
        raise Conflict(
            "The rows of this version have not been read yet. Wait until its check is done; "
            "if it is done, upload the file again.",
            code="dataset_not_checked",
        )


def examples(
    storage: Storage, version: DatasetVersion, *, first: int, limit: int
) -> tuple[list[Example], int | None]:
    """Return up to ``limit`` rows from line ``first`` on, and the next row's line or None.

    Takes as long at the end of a file as at its start. Blank lines are passed over.
    """
    with Rows.open(storage, version) as rows:
        places = rows.from_line(first, limit + 1)
        following = places[limit].line if len(places) > limit else None
        return [rows.example(place) for place in places[:limit]], following


def bad_lines(storage: Storage, version: DatasetVersion) -> tuple[int, ...]:
    """Return the numbers of all lines with errors, in order."""
    if not version.bad_rows:
        return ()
    _require_table(storage, version)
    with storage.open(version.table_key) as stream:
        found: list[int] = []
        for _, records in TableReader(stream).blocks():
            found += records["line"][records["flags"] & HAS_ERROR != 0].tolist()
    return tuple(found)


def cleaned_file(storage: Storage, version: DatasetVersion, limits: Limits) -> Iterator[bytes]:
    """Yield the version in its own container, unpacked, without its bad rows and blank lines."""
    with storage.open(version.storage_key) as stream:
        identified = intake.identify(stream)
        if not version.bad_rows:
            yield from intake.cleaned(stream, identified, lambda _place: False, limits)
            return
        _require_table(storage, version)
        with storage.open(version.table_key) as table:
            is_bad = _BadPlaces(TableReader(table))
            yield from intake.cleaned(stream, identified, is_bad, limits)


class _BadPlaces:
    """Tells of each place whether its row has an error; asked in order, it reads on in blocks."""

    def __init__(self, table: TableReader) -> None:
        self._table, self._first = table, 0
        self._bad: list[bool] = []

    def __call__(self, place: int) -> bool:
        if not self._first <= place < self._first + len(self._bad):
            flags = self._table.records(place, _ROWS_AT_ONCE)["flags"]
            self._first, self._bad = place, (flags & HAS_ERROR != 0).tolist()
        return self._bad[place - self._first] if self._bad else True


def cleaned_name(version: DatasetVersion) -> str:
    """Return a file name for the cleaned file: as uploaded, without the ending of its packing."""
    name = version.filename
    if version.compression:
        name = name.removesuffix(".gz").removesuffix(".zst")
    return f"cleaned-{name}"


def media_type(version: DatasetVersion, *, cleaned: bool) -> str:
    """Return what kind of file a download is."""
    if version.compression and not cleaned:
        return f"application/{version.compression}"
    return CONTAINERS[version.container or "jsonl"].media_type


def original_file(storage: Storage, version: DatasetVersion) -> Iterator[bytes]:
    """Yield the version as it was uploaded."""
    with storage.open(version.storage_key) as stream:
        while chunk := stream.read(2**20):
            yield chunk
