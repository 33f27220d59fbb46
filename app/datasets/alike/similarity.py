"""Near duplicates of a version: rows that read almost as an earlier one, and their groups. Pure.

Each row's words become numbers and MinHash bands, by several processes (``words``, ``minhash``);
rows that share a band are then compared word by word (``candidates``). The words' numbers lie in a
file meanwhile, so memory is some 250 bytes a row beside a few blocks of rows. Copies are found by
their hashes (``copies``); only the first of them is compared here.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from app.datasets.alike.candidates import Candidates, Places
from app.datasets.alike.copies import first_alike
from app.datasets.alike.minhash import BANDS, Bands, bands_of
from app.datasets.alike.words import Counts, Flags, Worded, likeness, may_be_alike, worded
from app.datasets.check.crew import in_order
from app.datasets.check.rows import parse
from app.datasets.formats import FORMATS, mapped
from app.datasets.formats.base import Turn
from app.datasets.table import RowPlace, TableReader, as_places

_BLOCK_ROWS, _BLOCK_BYTES = 1000, 2**20
_PAIR_WORDS = 1 << 20  # words compared at once, some 50 MiB
_SIGNING = 0.6  # of the time, about
Groups = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A row that reads almost as the row on the line ``of``."""

    line: int
    of: int
    offset: int
    size: int


@dataclass(frozen=True)
class TurnsOf:
    """Reads the turns of a row's bytes; it may go to another process."""

    format: str | None
    mapping: dict[str, Any] | None = None

    def __call__(self, data: bytes) -> Sequence[Turn]:
        """Return the readable turns; none of what is no object or has no known format."""
        value, _ = parse(data)
        form = FORMATS.get(self.format or "")
        return form.turns(mapped(value, self.mapping)) if form and type(value) is dict else ()


@dataclass(frozen=True)
class RowSource:
    """Where rows come from: ``read(offset, size)`` of the rows file, and what reads their turns.

    ``turns`` must be picklable, as ``TurnsOf`` is.
    """

    read: Callable[[int, int], bytes]
    turns: Callable[[bytes], Sequence[Turn]]


def find(  # a source, its table and what is written, each named at the call
    rows: RowSource,
    table: TableReader,
    *,
    bands: IO[bytes],
    groups: IO[bytes] | None = None,
    processes: int = 1,
    progress: Callable[[float], None] = lambda _share: None,
    folder: Path | None = None,
) -> Iterator[Repeat]:
    """Yield rows that read almost as an earlier row, by line; copies are none of them.

    ``bands`` gets 12 × u32 a row, and ``groups`` (see ``write_groups``) all groups of copies and
    near copies, both before the first one is yielded. Memory for the words lies in ``folder``, by
    default where temporary files lie: about half the size of the rows' text.
    """
    first = first_alike(table).astype(np.int64)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        sheets = _Sheets(Path(made), len(table))
        blocks = _blocks(rows, table)
        signed = in_order(partial(_sign, rows.turns), blocks, processes=processes)
        sheets.fill(signed, lambda done: progress(_SIGNING * done / max(1, len(table))))
        sheets.write_bands(bands)
        unique = np.flatnonzero((first == np.arange(len(first))) & sheets.has_words)
        found = Candidates(sheets.bands[:, unique], sheets.compare(unique))
        found.run(lambda share: progress(_SIGNING + (1 - _SIGNING) * share))
    if groups is not None:
        first[unique] = unique[found.leaders]
        write_groups(groups, first[first])
    yield from _repeats(table, unique, unique[found.like])


def write_groups(target: IO[bytes], leaders: Places) -> None:
    """Write for each row the place of the first row of its group, 8 bytes each; itself if alone."""
    target.write(leaders.astype("<u8").tobytes())


def read_groups(source: IO[bytes]) -> Groups:
    """Return for each row the place of the first row of its group."""
    return np.frombuffer(source.read(), dtype="<u8")


def _repeats(table: TableReader, rows: Places, like: Places) -> Iterator[Repeat]:
    later = rows != like
    partner = dict(zip(rows[later].tolist(), like[later].tolist(), strict=True))
    lines = np.concatenate([part["line"] for _, part in table.blocks()] or [np.empty(0)])
    for first, records in table.blocks():
        for place in as_places(first, records):
            if (other := partner.get(place.place)) is not None:
                of = int(lines[other])
                yield Repeat(place.line, of, place.offset, place.size)


Block = list[bytes]


def _blocks(rows: RowSource, table: TableReader) -> Iterator[Block]:
    """Yield the bytes of rows that lie side by side; nothing for a row that is no object."""
    for first, records in table.blocks(_BLOCK_ROWS):
        has_hash: list[bool] = (np.count_nonzero(records["hash"], axis=1) > 0).tolist()
        held: list[tuple[RowPlace, bool]] = []
        for place, wanted in zip(as_places(first, records), has_hash, strict=True):
            if held and place.offset + place.size - held[0][0].offset > _BLOCK_BYTES:
                yield _read(rows, held)
                held = []
            held.append((place, wanted))
        yield _read(rows, held)


def _read(rows: RowSource, held: list[tuple[RowPlace, bool]]) -> Block:
    wanted = [place for place, wanted in held if wanted]
    if not wanted:
        return [b""] * len(held)
    start = wanted[0].offset
    data = rows.read(start, wanted[-1].offset + wanted[-1].size - start)
    return [
        data[place.offset - start : place.offset - start + place.size] if wanted else b""
        for place, wanted in held
    ]


def _sign(turns: Callable[[bytes], Sequence[Turn]], block: Block) -> tuple[Worded, Bands]:
    """Return a block's words and bands; done by the helping processes."""
    rows = worded([turns(data) if data else () for data in block])
    return rows, bands_of(rows)


class _Sheets:
    """What is known of all rows: bands and how many words in memory, the words in a file."""

    def __init__(self, folder: Path, count: int) -> None:
        self.bands: Bands = np.zeros((BANDS, count), dtype=np.uint32)
        self._counts: Counts = np.zeros((count, 2), dtype=np.int64)
        self._path = folder / "words"

    def fill(self, signed: Iterator[tuple[Worded, Bands]], progress: Callable[[int], None]) -> None:
        """Take the blocks of rows in order; ``progress`` hears how many rows are taken."""
        at = 0
        with self._path.open("wb") as file:
            for rows, bands in signed:
                self.bands[:, at : at + len(rows)] = bands.T
                self._counts[at : at + len(rows)] = rows.counts
                file.write(rows.hashes.tobytes())
                at += len(rows)
                progress(at)

    @property
    def has_words(self) -> Flags:
        """Tell of which rows there is something to compare."""
        return np.sum(self._counts, axis=1) > 0

    def write_bands(self, target: IO[bytes]) -> None:
        """Write the bands row by row."""
        for start in range(0, self.bands.shape[1], 1 << 16):
            target.write(self.bands[:, start : start + (1 << 16)].T.astype("<u4").tobytes())

    def compare(self, chosen: Places) -> Callable[[Places, Places], Flags]:
        """Return what compares pairs of the chosen rows, by their numbers among them."""
        sizes = self._counts.sum(axis=1)
        words = _Words(self._path, (np.cumsum(sizes) - sizes)[chosen], self._counts[chosen])
        return words.alike


class _Words:
    """Rows' words in a file: where each row's begin, and how many it has of question and answer."""

    def __init__(self, path: Path, starts: Places, counts: Counts) -> None:
        has_any = bool(path.stat().st_size)
        self._hashes: npt.NDArray[np.uint32] = (
            np.memmap(path, dtype=np.uint32, mode="r") if has_any else np.empty(0, dtype=np.uint32)
        )
        self._starts, self._counts = starts, counts

    def alike(self, earlier: Places, later: Places) -> Flags:
        """Tell which pairs read almost the same."""
        found = may_be_alike(self._counts[earlier], self._counts[later])
        asked = np.flatnonzero(found)
        words = (self._counts[earlier[asked]] + self._counts[later[asked]]).sum(axis=1)
        parts = np.cumsum(words) // _PAIR_WORDS
        for part in np.split(asked, np.flatnonzero(np.diff(parts)) + 1):
            pair = self._of(earlier[part]), self._of(later[part])
            found[part] = likeness(*pair).almost
        return found

    def _of(self, rows: Places) -> Worded:
        counts = self._counts[rows]
        sizes = counts.sum(axis=1)
        begins = np.repeat(self._starts[rows] - (np.cumsum(sizes) - sizes), sizes)
        return Worded(counts, self._hashes[begins + np.arange(len(begins))])
