"""The parts of a file, checked in order: by this process, or by several for a large file.

A part is some MiB of whole lines. Helping processes read their parts from the file themselves, so
only what they found travels; this process checks parts too while they start and when they are busy.
"""

import os
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from app.datasets.check.checking import Checker, Part, Setup
from app.datasets.check.crew import shared
from app.datasets.check.lines import views
from app.datasets.check.signs import prepare
from app.datasets.problems import Code

PART_BYTES = 4 * 2**20
LARGE = 48 * 2**20  # bytes: below, helpers would be done before they have started
_SEARCHED = 2**16

Full = Callable[[], frozenset[Code]]
Span = tuple[int, int]


def parts_of(stream: IO[bytes], setup: Setup, *, processes: int, full: Full) -> Generator[Part]:
    """Yield what is found in each part of a seekable file, in order.

    ``full`` tells of which codes enough is shown. A stream that is no file of this machine is read
    by this process alone.
    """
    path = _path_of(stream)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if processes < 2 or path is None or size < LARGE:  # noqa: PLR2004  # nobody to share with
        return _alone(stream, setup, full)
    return _together(path, setup, processes=processes, full=full)


def _path_of(stream: IO[bytes]) -> str | None:
    name = getattr(stream, "name", None)
    return str(Path(name).resolve()) if isinstance(name, str) and Path(name).is_file() else None


def _alone(stream: IO[bytes], setup: Setup, full: Full) -> Generator[Part]:
    checker, taken = Checker(setup), 0
    for view in views(stream):
        checker.full = full()
        checker.take(view)
        taken += view.size
        if taken >= PART_BYTES:
            yield checker.part()
            taken = 0
    if taken:
        yield checker.part()


def _together(path: str, setup: Setup, *, processes: int, full: Full) -> Generator[Part]:
    prepare()
    work = ((span, full()) for span in _spans(path))
    yield from shared(partial(_check, path, setup), work, processes=processes)


def _check(path: str, setup: Setup, work: tuple[Span, frozenset[Code]]) -> Part:
    """Check the lines between two places of a file."""
    (start, end), full = work
    checker = Checker(setup)
    checker.full = full
    with Path(path).open("rb", buffering=0) as stream:
        stream.seek(start)
        for view in views(stream, start, end):
            checker.take(view)
    return checker.part()


def _spans(path: str) -> Iterator[Span]:
    """Cut a file into parts, each but the last behind the end of a line."""
    with Path(path).open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        start = 0
        while start < size:
            end = _next_line(stream, min(size, start + PART_BYTES), size)
            yield start, end
            start = end


def _next_line(stream: IO[bytes], at: int, size: int) -> int:
    """Return where the next line starts, or the file ends; from just before ``at`` on."""
    at -= 1
    stream.seek(at)
    while at < size:
        piece = stream.read(_SEARCHED)
        end = piece.find(b"\n")
        if end >= 0:
            return at + end + 1
        at += len(piece)
    return size
