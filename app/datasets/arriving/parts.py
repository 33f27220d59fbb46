"""The file of an upload on its way in: appended to by one writer at a time, never rewritten.

What counts as received is the file's real size, so nothing can be acknowledged that is not there:
each piece is on the disk (fsync) before it is answered, and a server killed in mid-piece leaves a
file that is merely longer. Memory is constant. Knows neither HTTP nor tables.
"""

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

from app.errors import AppError, Conflict, NoSpace, NotFound, TooLarge, Unavailable

BATCH_BYTES = 1 << 20
# A broken line is not told to us. Who comes back finds the upload free after this many seconds.
SILENCE_SECONDS = 20.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Part:
    """An opened part, held against other writers."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.start = self.size = os.fstat(descriptor).st_size

    def write(self, data: bytes | bytearray) -> None:
        """Append ``data``; on a full disk what fitted stays and counts."""
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self.size += written
            view = view[written:]

    def sync(self) -> None:
        """Return once all that was written is on the disk."""
        os.fsync(self._descriptor)


def create(path: Path) -> None:
    """Make an empty part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(exist_ok=False)


def size_of(path: Path) -> int:
    """Return how much of an upload is here, in bytes; ``NotFound`` if it was swept."""
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise gone() from error


def gone() -> NotFound:
    """Return the error of an upload that is not there, or not this user's."""
    return NotFound(
        "There is no such upload. What is left unfinished for a day is deleted; start again.",
        code="upload_gone",
    )


@contextmanager
def held(path: Path) -> Iterator[Part]:
    """Open a part for appending; ``Conflict`` while another request does the same."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise gone() from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                "Another request is working on this upload. Try again in a few seconds.",
                code="upload_busy",
            ) from error
        yield Part(descriptor)
    finally:
        os.close(descriptor)  # lets go of the lock


def require_offset(part: Part, offset: int) -> None:
    """Raise ``Conflict`` unless ``offset`` is where the part ends."""
    if offset != part.start:
        raise Conflict(
            f"{part.start} bytes are here, so go on from there, not from {offset}.",
            code="wrong_offset",
        )


async def append(part: Part, chunks: AsyncIterator[bytes], *, limit: int) -> None:
    """Append what comes, at most ``limit`` bytes; whatever ends it, what has come stays.

    Raises ``TooLarge``, ``NoSpace``, or ``Unavailable`` when the sender falls silent.
    """
    coming, pending = 0, bytearray()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(SILENCE_SECONDS) as patience:
            async for chunk in chunks:
                coming += len(chunk)
                if coming > limit:
                    raise TooLarge("More bytes come than the upload has. Start again.")
                pending += chunk
                if len(pending) >= BATCH_BYTES:
                    patience.reschedule(None)  # a slow disk is not the sender's fault
                    full, pending = pending, bytearray()
                    await run_in_threadpool(part.write, full)
                patience.reschedule(loop.time() + SILENCE_SECONDS)
    except TimeoutError as error:
        raise Unavailable(
            "No more bytes came. What arrived is kept; go on from there.", code="upload_stalled"
        ) from error
    except OSError as error:
        raise _told(error) from error
    finally:
        await run_in_threadpool(_settle, part, pending)


def _settle(part: Part, pending: bytearray) -> None:
    try:
        part.write(pending)
        part.sync()
    except OSError as error:
        raise _told(error) from error


def _told(error: OSError) -> AppError | OSError:
    if error.errno not in _FULL:
        return error
    return NoSpace(
        "The disk is full. What has arrived is kept for a day: free some disk space, then go on."
    )
