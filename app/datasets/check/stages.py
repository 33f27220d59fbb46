"""The check of a file in its two stages: what it is and what its rows show; which are alike.

Works on streams, so that a job and the command line check alike. Knows no database, no HTTP and
nothing of how problems are kept.
"""

import os
import tempfile
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from app.datasets import intake
from app.datasets.alike import similarity
from app.datasets.alike.similarity import Repeat, RowSource, TurnsOf
from app.datasets.check import outliers
from app.datasets.check.checking import is_error, problem
from app.datasets.check.excerpts import Excerpts
from app.datasets.check.parallel import LARGE
from app.datasets.check.validation import SHOWN_BYTES, Emit, Report, validate
from app.datasets.containers.base import Note
from app.datasets.formats.base import Finding
from app.datasets.intake import Identified, Limits
from app.datasets.problems import DETAIL_PER_CODE, Code, Problem
from app.datasets.reading import Rows
from app.datasets.table import HAS_WARNING, TableReader, mark

_MOST_PROCESSES = 2
_CONVERTING = 0.4  # of the first stage's time, about
_ALIKE = 0.9  # of the second stage's time, about
OpenRows = Callable[[str], IO[bytes]]
Tell = Callable[[float, int], None]  # the share done, and problems so far


def processes() -> int:
    """Return by how many processes a large file is checked here."""
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return min(_MOST_PROCESSES, len(usable(0)))


@dataclass(frozen=True)
class Asked:
    """How a file is to be checked: what the user says of it, and with how much of the machine."""

    declared: str | None = None
    mapping: Mapping[str, str] | None = None
    processes: int = 1
    limits: Limits = field(default_factory=Limits)
    folder: Path | None = None  # for what is only needed meanwhile


def first_stage(  # a file, what it is, and where its rows and what is found in them go
    stream: IO[bytes],
    identified: Identified,
    *,
    asked: Asked,
    open_rows: OpenRows,
    table: IO[bytes],
    emit: Emit,
    tell: Tell = lambda _share, _problems: None,
) -> Report:
    """Find all that rows say by themselves, and copies; ``table`` gets a record of each row.

    ``open_rows("wb")`` and then ``open_rows("rb")`` are asked for where the file itself is not one
    row a line. Raises ``NoSpace``.
    """
    if identified.refusal is not None:
        return _refused(identified, emit)
    if identified.is_plain:
        return _validated(stream, asked, emit, tell, table=table)
    size = max(1, stream.seek(0, os.SEEK_END))
    stream.seek(0)
    with tempfile.TemporaryFile(dir=asked.folder) as lines:
        with open_rows("wb") as rows:
            notes = intake.convert(
                stream,
                identified,
                rows=rows,
                lines=lines,
                progress=lambda done: tell(_CONVERTING * done / size, 0),
                limits=asked.limits,
            )
        with open_rows("rb") as rows:
            if not rows.seek(0, os.SEEK_END) and any(is_error(one.finding.code) for one in notes):
                return _noted(Report(), notes, emit)

            def tell_rest(share: float, problems: int) -> None:
                tell(_CONVERTING + (1 - _CONVERTING) * share, problems)

            report = _validated(rows, asked, emit, tell_rest, table=table, lines=lines)
            return _noted(report, notes, emit)


def _validated(  # as the caller has them
    rows: IO[bytes],
    asked: Asked,
    emit: Emit,
    tell: Tell,
    *,
    table: IO[bytes],
    lines: IO[bytes] | None = None,
) -> Report:
    size = max(1, rows.seek(0, os.SEEK_END))
    return validate(
        rows,
        emit=emit,
        progress=lambda done, problems: tell(done / size, problems),
        declared=asked.declared,
        mapping=asked.mapping,
        lines=lines,
        table=table,
        processes=asked.processes,
    )


def _noted(report: Report, notes: Sequence[Note], emit: Emit) -> Report:
    """Add what the container itself shows."""
    for note in notes:
        report.add(problem(note.line, note.finding, None), emit)
    return report


def _refused(identified: Identified, emit: Emit) -> Report:
    refusal, report = identified.refusal, Report()
    assert refusal is not None
    excerpt = Excerpts(refusal.excerpt).at(0, refusal.marked) if refusal.excerpt else None
    report.add(problem(refusal.line, Finding(refusal.code, refusal.message), excerpt), emit)
    return report


def second_stage(  # rows, what is known of them, and where what is alike goes
    rows: IO[bytes],
    report: Report,
    *,
    asked: Asked,
    table: IO[bytes],
    bands: IO[bytes],
    groups: IO[bytes] | None,
    emit: Emit,
    tell: Tell = lambda _share, _problems: None,
) -> None:
    """Find what rows say together: which are nearly alike, and which are unlike the rest.

    It is added to the report, and to the rows' flags in ``table``.
    """
    opened = Rows(rows, TableReader(table), format_name=report.format, mapping=asked.mapping)
    mapping = dict(asked.mapping) if asked.mapping else None
    found = similarity.find(
        RowSource(opened.read, TurnsOf(report.format, mapping)),
        opened.table,
        bands=bands,
        groups=groups,
        processes=asked.processes if rows.seek(0, os.SEEK_END) >= LARGE else 1,
        progress=lambda share: tell(_ALIKE * share, report.problems),
        folder=asked.folder,
    )
    offsets: array[int] = array("Q")
    for repeat in found:
        offsets.append(repeat.offset)
        report.add(_near(repeat, report, opened), emit)
    odd = outliers.find(
        opened, progress=lambda share: tell(_ALIKE + (1 - _ALIKE) * share, report.problems)
    )
    for problem_found in odd.problems:
        report.add(problem_found, emit)
    report.statistics |= odd.statistics
    _mark(table, np.frombuffer(offsets.tobytes(), dtype=np.uint64))
    lines = {found.line for found in odd.problems}
    places = sorted(opened.table.place_of_line(line) for line in lines)
    mark(table, np.array(places, dtype=np.int64), HAS_WARNING)


def _near(repeat: Repeat, report: Report, rows: Rows) -> Problem:
    finding = Finding(Code.NEAR_DUPLICATE, f"the row reads almost as line {repeat.of:,}")
    if report.by_code[Code.NEAR_DUPLICATE] >= DETAIL_PER_CODE:
        return Problem(repeat.line, finding.code, finding.message)  # counted, and shown to nobody
    text = rows.read(repeat.offset, min(repeat.size, SHOWN_BYTES)).decode(errors="replace")
    return problem(repeat.line, finding, Excerpts(text).of(finding))


def _mark(table: IO[bytes], offsets: npt.NDArray[np.uint64]) -> None:
    """Note a warning at the rows that begin at ``offsets``."""
    for first, records in TableReader(table).blocks():
        places = np.flatnonzero(np.isin(records["offset"], offsets)) + first
        mark(table, places, HAS_WARNING)
