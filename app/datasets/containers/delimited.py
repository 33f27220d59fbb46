"""Tables as text (CSV and TSV): a record a row, with the names of the first record. Pure.

A record may go over several lines; its line is the one on which it starts. One that cannot be read
is reported there, and reading goes on with the line behind it.
"""

from collections import Counter
from collections.abc import Iterator
from typing import IO

import msgspec

from app.datasets.containers.base import (
    Fault,
    Interrupted,
    IsBad,
    Item,
    Note,
    Refused,
    bom_note,
    marked,
)
from app.datasets.containers.cells import Reader, Value, conversation, reader_of
from app.datasets.containers.header import header_of
from app.datasets.containers.records import Record, records
from app.datasets.formats.base import Finding
from app.datasets.problems import Code

_encode = msgspec.json.Encoder().encode
_MAY_BE_TURNS = ('"role"', '"from"')


class Delimited:
    """A table with a header; the separator is told from it."""

    def __init__(self, name: str, title: str, media_type: str) -> None:
        self.name, self.title, self.media_type, self.ending = name, title, media_type, name

    def items(self, stream: IO[bytes]) -> Iterator[Item | Note]:
        """Yield every record as an object of its cells by column."""
        found = records(stream, _separator)
        header = next(found, None)
        if header is None:
            return
        columns = _Columns(_names(header))
        if header.has_bom:
            yield bom_note()
        yield from (Note(header.line, finding) for finding in columns.findings())
        for record in found:
            yield Item(record.line, b"" if record.is_blank else columns.row(record))

    def cleaned(self, stream: IO[bytes], is_bad: IsBad) -> Iterator[bytes]:
        """Yield the header and the good records byte for byte; BOM and blank lines go."""
        place = -1
        try:
            found = records(stream, _separator)
            for header in found:
                yield header.raw
                break
            for record in found:
                if record.is_blank:
                    continue
                place += 1
                if not is_bad(place):
                    yield record.raw
        except Interrupted:
            return  # what came before the break is the table


def _separator(first_line: bytes) -> str:
    header = header_of(first_line + b"\n")
    if header is not None:
        return header.separator
    return max("\t;,", key=lambda separator: first_line.count(separator.encode()))


def _names(header: Record) -> list[str]:
    if header.fault is not None:
        raise Refused(f"a table whose header cannot be read: {header.fault.message}")
    return [name.strip() for name in header.fields]


class _Columns:
    """Makes rows of records: what each column is called, and how its cells are read."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._nameless = [at for at, name in enumerate(names) if not name]
        self._readers: dict[int, Reader] = {
            at: reader for at, name in enumerate(names) if (reader := reader_of(name))
        }

    def findings(self) -> Iterator[Finding]:
        """Yield what is odd about the header."""
        for at in self._nameless:
            message = f"the column {at + 1:,} of the header has no name and is not read"
            yield Finding(Code.UNKNOWN_KEY, message)
        for name, count in Counter(self._names).items():
            if name and count > 1:
                message = f"{count} columns are named {name[:60]!r}; only the last is read"
                yield Finding(Code.UNKNOWN_KEY, message)

    def row(self, record: Record) -> bytes:
        """Return a record as a line of JSON, or marked."""
        fault = record.fault or self._wrong_count(record)
        if fault is not None:
            return marked(fault)
        values: list[Value | None] = [*record.fields]
        for at, text in enumerate(record.fields):
            reader = self._readers.get(at)
            if reader is not None:
                value = reader(text)
                if isinstance(value, Fault):
                    return marked(value)
                values[at] = value
            elif any(key in text for key in _MAY_BE_TURNS):
                values[at] = conversation(text)
        row = dict(zip(self._names, values, strict=True))
        row.pop("", None)
        return _encode({name: value for name, value in row.items() if value is not None})

    def _wrong_count(self, record: Record) -> Fault | None:
        found, due = len(record.fields), len(self._names)
        if found == due:
            return None
        message = f"the record has {found:,} cells where the header names {due:,} columns"
        return Fault(Code.INVALID_JSON, message, record.text, 0, len(record.text))


CSV = Delimited("csv", "CSV", "text/csv")
TSV = Delimited("tsv", "TSV", "text/tab-separated-values")
