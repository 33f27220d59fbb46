"""Near duplicates of 1,000,000 short rows: seconds, memory, and how many of them are found.

Its peer is brute force over all pairs of 5,000 rows, by products of matrices: rows that our rule
calls almost equal, and rows that share 85 of 100 words whatever the rule says of question and
answer. Rows are of unlike words, or all of one template; near copies are planted among both.

python -m tests.benchmarks.bench_near_duplicates [rows]
"""

import io
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.datasets.alike.copies import first_alike
from app.datasets.alike.similarity import RowSource, TurnsOf, find, read_groups
from app.datasets.alike.words import words_of
from app.datasets.check.validation import validate
from app.datasets.table import TableReader

ROWS, COMPARED, PROCESSES = 1_000_000, 5_000, 2
_PLANTED = 0.2  # of the rows are an earlier one with some words changed
_REMEMBERED = 2_000
_WORDS = 3_000

Row = tuple[str, str]
Flags = npt.NDArray[np.bool_]


def main(rows: int = ROWS) -> None:
    """Print the figures."""
    for name, rows_of in KINDS.items():
        with tempfile.TemporaryDirectory(prefix="tb-") as folder:
            path = Path(folder) / "rows.jsonl"
            _write(path, islice(rows_of(), rows))
            _speed(name, path)
    for name, rows_of in KINDS.items():
        with tempfile.TemporaryDirectory(prefix="tb-") as folder:
            _recall(name, Path(folder) / "rows.jsonl", list(islice(rows_of(), COMPARED)))


def unlike() -> Iterator[Row]:
    """Yield rows of unlike words, a fifth of them an earlier one with a few words changed."""
    chance = random.Random(1)
    words = _vocabulary(chance)

    def new() -> Row:
        asked, answered = (chance.choices(words, k=chance.randint(8, 30)) for _ in range(2))
        return " ".join(asked), " ".join(answered)

    return _planted(new, words, chance)


def templated() -> Iterator[Row]:
    """Yield rows of one template, of whose words about two thirds are the same; planted as well."""
    chance = random.Random(2)
    words = _vocabulary(chance)

    def new() -> Row:
        one, two, three, four, five = chance.choices(words, k=5)
        return (
            f"How do I {one} the {two} of my {three} in the app on a phone in {four} ?",
            (
                f"To {one} it open the page of your {three} , then press {five} and choose "
                f"{four} from the list that is shown below the picture . It takes a day at most ."
            ),
        )

    return _planted(new, words, chance)


def _planted(new: Callable[[], Row], words: list[str], chance: random.Random) -> Iterator[Row]:
    latest: list[Row] = []
    while True:
        row = new()
        if latest and chance.random() < _PLANTED:
            parts = [text.split() for text in chance.choice(latest)]
            for _ in range(chance.randint(1, 3)):
                part = chance.choice(parts)
                part[chance.randrange(len(part))] = chance.choice(words)
            row = " ".join(parts[0]), " ".join(parts[1])
        at = chance.randrange(_REMEMBERED)
        latest[at : at + 1] = [row]
        yield row


KINDS: dict[str, Callable[[], Iterator[Row]]] = {"unlike": unlike, "one template": templated}


def _vocabulary(chance: random.Random) -> list[str]:
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(_WORDS)]


def _write(path: Path, rows: Iterator[Row] | Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for question, answer in rows:
            turns = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")


def _found(path: Path, processes: int) -> tuple[list[int], npt.NDArray[np.uint64], TableReader]:
    """Return the lines of near duplicates, the groups and the table."""
    table, groups = io.BytesIO(), io.BytesIO()
    with path.open("rb") as stream:
        validate(stream, emit=lambda _: None, table=table)

        def read(offset: int, size: int) -> bytes:
            stream.seek(offset)
            return stream.read(size)

        source = RowSource(read, TurnsOf("messages"))
        start, worked = time.perf_counter(), _worked()
        with tempfile.TemporaryFile() as bands:
            repeats = find(
                source, TableReader(table), bands=bands, groups=groups, processes=processes
            )
            lines = [repeat.line for repeat in repeats]
    _Timer.seconds, _Timer.worked = time.perf_counter() - start, _worked() - worked
    return lines, read_groups(io.BytesIO(groups.getvalue())), TableReader(table)


class _Timer:
    """How long the latest search took, without the first stage: by the clock, and of all cores."""

    seconds = 0.0
    worked = 0.0


def _worked() -> float:
    """Return the seconds that cores have spent on this process and its helpers."""
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usage)


def _speed(name: str, path: Path) -> None:
    lines, groups, table = _found(path, PROCESSES)
    mine, helpers = (
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(
        f"{len(table):,} rows, {name} ({path.stat().st_size / 1e6:.0f} MB): "
        f"{_Timer.seconds:.1f} s on {PROCESSES} processes ({_Timer.worked:.1f} s of cores), "
        f"{mine:.0f} MiB and {helpers:.0f} MiB a helper; "
        f"{len(lines):,} near duplicates, {len(np.unique(groups)):,} groups",
        flush=True,
    )


def _recall(name: str, path: Path, rows: Sequence[Row]) -> None:
    _write(path, rows)
    lines, groups, table = _found(path, 1)
    named = np.zeros(len(rows), dtype=np.bool_)
    named[np.array(lines, dtype=np.int64) - 1] = True
    unique = first_alike(table) == np.arange(len(rows))
    similarity, almost = _all_pairs(rows)
    earlier = np.tril(np.ones((len(rows), len(rows)), dtype=np.bool_), -1)
    earlier &= unique[:, None] & unique[None, :]
    for what, alike in (("our rule", almost), ("0.85 of the words", similarity >= 0.85)):
        pairs = alike & earlier
        wanted = pairs.any(axis=1)
        one, other = np.nonzero(pairs)
        together = np.count_nonzero(groups[one] == groups[other])
        print(
            f"{name}, {len(rows):,} rows, {what}: "
            f"{np.count_nonzero(named & wanted) / max(1, np.count_nonzero(wanted)):.4f} of "
            f"{np.count_nonzero(wanted):,} rows named, "
            f"{together / max(1, len(one)):.4f} of {len(one):,} pairs in one group; "
            f"{np.count_nonzero(named & ~wanted):,} named that are none"
        )


def _all_pairs(rows: Sequence[Row]) -> tuple[npt.NDArray[np.float64], Flags]:
    """Return the share of common words of every pair, and which are almost equal by our rule."""
    shared, most, total = [], [], []
    for side in (0, 1):
        bags = _bags([row[side] for row in rows])
        sizes = bags.sum(axis=1)
        shared.append((bags @ bags.T).astype(np.float64))
        most.append(np.maximum(sizes[:, None], sizes[None, :]))
        total.append(sizes[:, None] + sizes[None, :])
    similarity = (shared[0] + shared[1]) / (total[0] + total[1] - shared[0] - shared[1])
    questions = most[0] - shared[0] <= most[0] / 3
    answers = (most[1] - shared[1] < most[1] / 5) | (most[1] == shared[1])
    return similarity, (similarity >= 0.85) & questions & answers


def _bags(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return a column for each word and each time that it is repeated, 1 where a text has it."""
    columns: dict[tuple[str, int], int] = {}
    cells: list[tuple[int, int]] = []
    for row, text in enumerate(texts):
        seen: dict[str, int] = {}
        for word in words_of(text):
            seen[word] = seen.get(word, 0) + 1
            cells.append((row, columns.setdefault((word, seen[word]), len(columns))))
    bags = np.zeros((len(texts), len(columns)), dtype=np.float32)
    bags[tuple(np.array(cells).T)] = 1
    return bags


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
