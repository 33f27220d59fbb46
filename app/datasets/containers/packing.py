"""gzip and zstd: a packed stream read as if it were not, in constant memory and within limits.

What comes before a break is given; then ``Interrupted`` says where and why. Pure but for the limits
that its caller gives.
"""

import gzip
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from app.datasets.containers.base import Interrupted

_RATIO_FROM = 64 * 2**20  # bytes unpacked before the ratio counts: small files may be all alike
_CHUNK = 2**16  # what is lost before a damaged place is less than that
_MAGIC: Mapping[str, bytes] = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_SKIPPABLE = range(0x50, 0x60)  # zstd's frames without content, which some tools put first


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may grow to when it becomes rows, and the folder whose disk must hold it.

    Without a folder the disk is not looked at.
    """

    unpacked_bytes: int = 100 * 2**30
    ratio: int = 200
    folder: Path | None = None

    def excess(self, *, read: int, made: int) -> str | None:
        """Return what is wrong if ``read`` bytes of a file became ``made`` bytes, or None."""
        if made > self.unpacked_bytes:
            return (
                f"it grows to more than {self.unpacked_bytes / 2**30:,.1f} GiB, the limit of this "
                "Tunebox; split the file, or let an admin raise TUNEBOX_MAX_UNPACKED_BYTES"
            )
        if made > _RATIO_FROM and made > self.ratio * max(read, 1):
            return (
                f"it grows to more than {self.ratio} times its size, as only a decompression bomb "
                "does; what came before was kept: unpack the file and send it as it is"
            )
        return None


def packing_of(head: bytes) -> str | None:
    """Return ``gzip`` or ``zstd`` if a file that begins so is packed, else None."""
    if len(head) > 4 and head[0] in _SKIPPABLE and head[1:4] == b"\x2a\x4d\x18":  # noqa: PLR2004
        return "zstd"
    return next((name for name, magic in _MAGIC.items() if head.startswith(magic)), None)


class Unpacked:
    """Reads a packed stream; only ``read`` is offered. Raises ``Interrupted``."""

    def __init__(self, stream: IO[bytes], packing: str, limits: Limits) -> None:
        self._source, self._packing, self._limits = stream, packing, limits
        self._file, broken = _opened(stream, packing)
        self._errors = (EOFError, *broken)
        self.unpacked, self._line = 0, 1

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, at least one before the end."""
        try:
            data: bytes = self._file.read1(min(size, _CHUNK) if size > 0 else _CHUNK)
        except self._errors as error:
            raise self._interrupted(self._reason(error)) from error
        self.unpacked += len(data)
        excess = self._limits.excess(read=self._source.tell(), made=self.unpacked)
        if excess:
            raise self._interrupted(excess)
        self._line += data.count(b"\n")
        return data

    def _interrupted(self, reason: str) -> Interrupted:
        return Interrupted(self._line, f"the {self._packing} stream cannot be read on: {reason}")

    def _reason(self, error: BaseException) -> str:
        after = f"after {self.unpacked:,} unpacked bytes"
        if isinstance(error, EOFError):
            return f"it ends early, {after}; the file was cut off, so pack or copy it again"
        return f"it is damaged {after}; pack or copy it again"


def _zstd() -> Any:
    """Return the standard library's module, or its twin for older Pythons."""
    if sys.version_info >= (3, 14):
        from compression import zstd  # pyright: ignore[reportMissingImports]
    else:
        from backports import zstd
    return zstd


def _opened(stream: IO[bytes], packing: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return what unpacks a stream, and what it raises where that is damaged."""
    if packing == "gzip":
        return gzip.GzipFile(fileobj=stream, mode="rb"), (zlib.error, gzip.BadGzipFile)
    zstd = _zstd()
    return zstd.ZstdFile(stream), (zstd.ZstdError,)
