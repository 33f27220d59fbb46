"""All tokens of a dataset as a few long arrays, in memory or mapped from a folder of the cache.

A folder is whole or not there: it is written aside, flushed to the disk and renamed, and its last
file says what must be in it. Knows neither tokenizers nor rows nor torch.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from worker.trainer.coding import ID

IGNORED = -100  # the label of a token that is read, not learned
MOST_BYTES = 20 * 2**30  # of all sets together; the one used longest ago goes first
MOST_REASONS = 1000
UNCUT = 2**32 - 1  # as a length: no row has more tokens
_STALE_SECONDS = 3600.0  # a set that is being written grows more often than that
_META = "meta.json"
_COLUMNS = {
    "ids": ID,
    "trained": np.dtype("u1"),
    "sizes": np.dtype("<u4"),
    "keys": np.dtype("<u8"),
    "lines": np.dtype("<u8"),
    "places": np.dtype("<u8"),
}
_AT_ONCE = 100_000  # rows that are summed up at once

Refused = tuple[int, str]
Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Part:
    """The tokens of some rows in a row, as they are made; refused rows have none.

    ``refused`` are numbers of rows within the part, with the reason of each.
    """

    ids: bytes
    trained: bytes
    sizes: Sequence[int]
    keys: Sequence[int]
    lines: Sequence[int]
    places: Sequence[int]
    refused: Sequence[Refused]


@dataclass(frozen=True)
class TokenSet:
    """Every row's tokens one behind the other, uncut. ``refused`` holds the first reasons."""

    ids: Column
    trained: Column  # 1 where a token is learned
    sizes: Column  # tokens of each row
    keys: Column  # what a row says, in 64 bits
    lines: Column
    places: Column
    refused: Sequence[Refused]
    refused_rows: int
    digest: str
    starts: Column = field(init=False)

    def __post_init__(self) -> None:
        ends = np.cumsum(self.sizes, dtype=np.int64)
        object.__setattr__(self, "starts", np.concatenate(([0], ends)))

    def __len__(self) -> int:
        return len(self.sizes)

    def row(self, number: int, most: int) -> "Row":
        """Return a row's tokens, cut to ``most``."""
        return Row(self, number, min(int(self.sizes[number]), most))

    def learned(self, most: int) -> Column:
        """Return how many tokens each row has to learn among its first ``most``."""
        counts = [
            self._learned(first, min(first + _AT_ONCE, len(self)), most)
            for first in range(0, len(self), _AT_ONCE)
        ]
        return np.concatenate([*counts, np.zeros(0, np.int64)])

    def _learned(self, first: int, end: int, most: int) -> Column:
        starts = self.starts[first:end]
        kept = np.minimum(self.sizes[first:end], most)
        base, limit = int(starts[0]), int(self.starts[end])
        trained = np.append(self.trained[base:limit], np.uint8(0))
        edges = np.stack([starts - base, starts - base + kept], axis=1).ravel()
        sums = np.add.reduceat(trained, edges, dtype=np.int64)[::2]
        return np.where(kept > 0, sums, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a set; its lists are made when they are asked for."""

    of: TokenSet
    number: int
    size: int

    @property
    def line(self) -> int:
        """The line of the dataset it stands in."""
        return int(self.of.lines[self.number])

    def _slice(self) -> slice:
        start = int(self.of.starts[self.number])
        return slice(start, start + self.size)

    @property
    def ids(self) -> list[int]:
        """The tokens."""
        return self.of.ids[self._slice()].tolist()

    @property
    def labels(self) -> list[int]:
        """The tokens that are learned, in their places; ``IGNORED`` elsewhere."""
        part = self._slice()
        ids = self.of.ids[part].astype(np.int64)
        return np.where(self.of.trained[part], ids, IGNORED).tolist()

    @property
    def trained(self) -> int:
        """How many tokens are learned."""
        return int(np.count_nonzero(self.of.trained[self._slice()]))

    def __len__(self) -> int:
        """Return how many tokens there are."""
        return self.size


class _Writer:
    """Writes parts one behind the other, and keeps what is told of the whole."""

    def __init__(self, streams: Mapping[str, IO[bytes]]) -> None:
        self._streams = streams
        self._told = hashlib.sha256()
        self.refused: list[Refused] = []
        self.rows = self.refused_rows = 0

    def add(self, part: Part) -> None:
        for name, kind in _COLUMNS.items():
            values = getattr(part, name)
            data = values if isinstance(values, bytes) else np.array(values, kind).tobytes()
            self._streams[name].write(data)
            if name in ("ids", "trained", "sizes"):
                self._told.update(data)
        self.refused += part.refused[: max(0, MOST_REASONS - len(self.refused))]
        self.refused_rows += len(part.refused)
        self.rows += len(part.sizes)

    def meta(self) -> dict[str, Any]:
        sizes = {name: stream.tell() for name, stream in self._streams.items()}
        return {
            "rows": self.rows,
            "bytes": sizes,
            "refused": self.refused,
            "refused_rows": self.refused_rows,
            "digest": self._told.hexdigest(),
        }


def gathered(parts: Iterable[Part]) -> TokenSet:
    """Return parts as one set that nobody keeps; its files vanish with it."""
    with TemporaryDirectory(prefix="tokens-") as folder:
        _write(parts, Path(folder))
        found = _read(Path(folder))
    assert found is not None
    return found


class Cache:
    """The sets that are kept, by what their tokens depend on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "sets"

    def get(self, key: str) -> TokenSet | None:
        """Return the set of this key, or None if it was not made yet."""
        found = _read(self._folder / key)
        if found is not None:
            with suppress(OSError):
                os.utime(self._folder / key / _META)  # used now
        return found

    def put(self, key: str, parts: Iterable[Part]) -> TokenSet:
        """Make a set of ``parts`` under this key and return it; an error leaves nothing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.sweep()
        aside = self._folder / f".{key}-{secrets.token_hex(4)}"
        aside.mkdir()
        try:
            _write(parts, aside)
            with suppress(OSError):  # another process was faster: its set is the same
                aside.rename(self._folder / key)
                _flush(self._folder)
            found = self.get(key)
            assert found is not None
            return found
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def sweep(self, *, most: int = MOST_BYTES) -> None:
        """Remove what killed writers left, and of the sets what goes beyond ``most`` bytes."""
        kept: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            with suppress(OSError):
                sizes = [one.stat() for one in path.iterdir()]
                used = max([path.stat().st_mtime, *(one.st_mtime for one in sizes)])
                if not path.name.startswith("."):
                    kept.append((used, sum(one.st_size for one in sizes), path))
                elif time.time() - used > _STALE_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)
        total = 0
        for _, size, path in sorted(kept, key=lambda one: -one[0]):
            total += size
            if total > most:
                shutil.rmtree(path, ignore_errors=True)


def _write(parts: Iterable[Part], folder: Path) -> None:
    streams = {name: (folder / name).open("wb") for name in _COLUMNS}
    try:
        writer = _Writer(streams)
        for part in parts:
            writer.add(part)
        meta = writer.meta()
        for stream in streams.values():
            stream.flush()
            os.fsync(stream.fileno())
    finally:
        for stream in streams.values():
            stream.close()
    with (folder / _META).open("w") as file:
        json.dump(meta, file)
        file.flush()
        os.fsync(file.fileno())
    _flush(folder)


def _flush(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _read(folder: Path) -> TokenSet | None:
    try:
        meta: dict[str, Any] = json.loads((folder / _META).read_bytes())
        columns = {name: _mapped(folder / name, kind) for name, kind in _COLUMNS.items()}
    except (OSError, ValueError):
        return None
    if {name: column.nbytes for name, column in columns.items()} != meta["bytes"]:
        return None  # damaged by something else than us; it is made again
    refused = [(int(number), str(reason)) for number, reason in meta["refused"]]
    return TokenSet(
        **columns, refused=refused, refused_rows=meta["refused_rows"], digest=meta["digest"]
    )


def _mapped(path: Path, kind: np.dtype[Any]) -> Column:
    if not path.stat().st_size:
        return np.zeros(0, kind)
    return np.memmap(path, dtype=kind, mode="r")


def numbered(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts with their refused rows numbered through the whole."""
    rows = 0
    for part in parts:
        yield Part(
            **{**vars(part), "refused": [(rows + number, why) for number, why in part.refused]}
        )
        rows += len(part.sizes)
