"""The rows of a dataset on this machine: where each lies, and the conversation it holds.

Rows come by a version's table, or, for files that are trained by hand, by their lines. Knows the
formats, no tokenizer.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.datasets.formats.preference import Side
from app.datasets.table import HAS_ERROR, RECORD
from app.jobs.state import FailureKind
from worker.trainer.data import Example, answer_of, example_of
from worker.trainer.failures import TrainerError

Numbers = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Source:
    """The rows to train, in the file's order. ``content`` names the file, for the token cache.

    ``places`` are the rows' numbers in the whole version, those that are left out counted. With a
    ``side`` each row is its prompt with the answer of that side.
    """

    path: Path
    form: str
    mapping: Mapping[str, str] | None
    content: str
    lines: Numbers
    offsets: Numbers
    sizes: Numbers
    places: Numbers
    side: Side | None = None

    def __len__(self) -> int:
        return len(self.lines)

    def examples(self, numbers: Iterable[int]) -> Iterator[Example]:
        """Read rows by their numbers here. A row that is no conversation raises, with its line."""
        with self.path.open("rb") as file:
            for number in numbers:
                file.seek(int(self.offsets[number]))
                data = file.read(int(self.sizes[number]))
                yield self._example(data, int(self.lines[number]))

    def _example(self, data: bytes, line: int) -> Example:
        if self.side is None:
            return example_of(data, line=line, form=self.form, mapping=self.mapping)
        return answer_of(data, line=line, side=self.side, form=self.form, mapping=self.mapping)

    def of_side(self, side: Side) -> "Source":
        """Return the rows as their prompts with one of their answers."""
        return replace(self, side=side)

    def part(self, start: int, end: int) -> "Source":
        """Return the rows from ``start`` to before ``end``."""
        cut = (one[start:end] for one in (self.lines, self.offsets, self.sizes, self.places))
        return Source(self.path, self.form, self.mapping, self.content, *cut, self.side)

    def digest(self) -> str:
        """Name what is read here: the file, how it is read, and which of its rows."""
        named = (self.content, self.form, sorted((self.mapping or {}).items()))
        told = hashlib.sha256(repr(named if self.side is None else (*named, self.side)).encode())
        told.update(self.lines.tobytes())
        return told.hexdigest()


def of_table(
    rows: Path,
    table: Path,
    *,
    content: str,
    form: str = "messages",
    mapping: Mapping[str, str] | None = None,
) -> Source:
    """Return the rows without errors of a version, by the table that its check wrote."""
    records = np.fromfile(table, dtype=RECORD)
    places = np.flatnonzero((records["flags"] & HAS_ERROR) == 0).astype(np.uint64)
    good = records[places]
    columns = (good[name].astype(np.uint64) for name in ("line", "offset", "size"))
    return _some(Source(rows, form, mapping, content, *columns, places))


def of_lines(path: Path, *, excluded: Iterable[int] = (), form: str = "messages") -> Source:
    """Return the rows of JSONL in a format; blank and excluded lines are left out."""
    left_out, found, told = frozenset(excluded), list[Sequence[int]](), hashlib.sha256()
    offset = place = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                told.update(line)
                if line.strip():
                    if number not in left_out:
                        found.append((number, offset, len(line), place))
                    place += 1
                offset += len(line)
    except FileNotFoundError:
        text = f"the dataset's file {path.name} is missing"
        raise TrainerError(FailureKind.BAD_DATASET, text) from None
    columns = np.array(found, dtype=np.uint64).reshape(-1, 4).T
    return _some(Source(path, form, None, told.hexdigest(), *columns))


def _some(source: Source) -> Source:
    if not len(source):
        raise TrainerError(FailureKind.BAD_DATASET, "the dataset has no rows to train on")
    return source
