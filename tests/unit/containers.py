"""What tests of containers share: rows taken in as users send them, and read back."""

import io
import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.datasets import intake
from app.datasets.containers.base import Fault, Note, fault_of
from app.datasets.intake import Identified, Limits
from app.datasets.table import TableReader
from app.datasets.terminal import checked

USUAL = Limits()


def conversations(count: int) -> list[dict[str, Any]]:
    """Return rows with all that makes JSON hard to cut: brackets, quotes and breaks in texts."""
    return [
        {
            "messages": [
                {"role": "user", "content": f'Box {n}: {{[\\"] and\n"}},\t{{"messages": 1'},
                {"role": "assistant", "content": f"It holds {n} lamps \u2028 ü 🙂."},
            ]
        }
        for n in range(count)
    ]


class Taken:
    """A file as intake gives it: what it is, its rows, their lines, and the container's notes."""

    def __init__(self, content: bytes, limits: Limits = USUAL) -> None:
        stream, rows, lines = io.BytesIO(content), io.BytesIO(), io.BytesIO()
        self.identified: Identified = intake.identify(stream)
        self.notes: list[Note] = []
        if self.identified.refusal is None:
            self.notes = intake.convert(
                stream, self.identified, rows=rows, lines=lines, limits=limits
            )
        self.raw = rows.getvalue().split(b"\n")[:-1]
        self.lines = array("Q", lines.getvalue()).tolist()
        assert len(self.lines) == len(self.raw)

    @property
    def kind(self) -> tuple[str, str | None]:
        """Return the container and the compression."""
        return self.identified.container, self.identified.compression

    @property
    def faults(self) -> dict[int, Fault]:
        """Return what is wrong with rows that could not be read, by line."""
        found = zip(self.lines, map(fault_of, self.raw), strict=True)
        return {line: fault for line, fault in found if fault is not None}

    @property
    def rows(self) -> list[tuple[int, Any]]:
        """Return line and value of each row that could be read."""
        found = zip(self.lines, self.raw, strict=True)
        return [(line, json.loads(data)) for line, data in found if data and not fault_of(data)]

    @property
    def values(self) -> list[Any]:
        """Return the values of the rows."""
        return [value for _, value in self.rows]

    @property
    def said(self) -> list[tuple[int, str, str]]:
        """Return line, code and message of each note."""
        return [(note.line, note.finding.code.value, note.finding.message) for note in self.notes]


def refusal(content: bytes) -> tuple[str, str]:
    """Return the code and message with which a file is refused."""
    found = intake.identify(io.BytesIO(content)).refusal
    assert found is not None
    return found.code.value, found.message


def downloaded(content: bytes) -> bytes:
    """Return the file without the rows in which its check finds errors, as it is downloaded."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        with checked(path) as found, found.table.open("rb") as stream:
            table = TableReader(stream)
            rows = table.rows(0, len(table))
            return cleaned(content, [row.place for row in rows if not row.is_good])


def cleaned(content: bytes, bad: Sequence[int] = ()) -> bytes:
    """Return the cleaned file, without the rows at the places ``bad``."""
    stream = io.BytesIO(content)
    found = intake.identify(stream)
    return b"".join(intake.cleaned(stream, found, lambda place: place in bad))
