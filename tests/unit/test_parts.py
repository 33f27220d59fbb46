"""A part keeps what came, whatever ends it, in constant memory; so do all ways into the storage."""

import asyncio
import errno
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Message

from app.datasets.arriving import importing, parts, receiving, uploads
from app.datasets.arriving.uploads import OpenUpload
from app.datasets.models import Upload
from app.errors import Conflict, NoSpace, NotFound, TooLarge, Unavailable
from app.kit.clock import utc_now
from app.kit.storage import get_storage
from app.settings import Settings

CHUNK = bytes(1 << 16)
LARGE = 200 * 2**20
LITTLE = 16 * 2**20  # bytes of memory, for any size of file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "uploads" / "up_1"
    parts.create(made)
    return made


async def pieces(*chunks: bytes, error: BaseException | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if error is not None:
        raise error


def appended(path: Path, chunks: AsyncIterator[bytes], *, limit: int = 2**40) -> None:
    with parts.held(path) as part:
        asyncio.run(parts.append(part, chunks, limit=limit))


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LITTLE, f"{peak / 2**20:.0f} MiB"


def test_a_broken_line_leaves_what_came(path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        appended(path, pieces(b"one", b"two", error=ConnectionResetError()))

    assert path.read_bytes() == b"onetwo"


def test_a_silent_sender_lets_go_of_the_upload(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(60)

    monkeypatch.setattr(parts, "SILENCE_SECONDS", 0.05)

    with pytest.raises(Unavailable):
        appended(path, silent())
    appended(path, pieces(b"two"))

    assert path.read_bytes() == b"onetwo"


def test_a_full_disk_is_told_and_what_fitted_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, disk = parts.os.write, [5]

    def until_full(descriptor: int, data: memoryview) -> int:
        if disk[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[: disk[0]])
        disk[0] -= written
        return written

    monkeypatch.setattr(parts.os, "write", until_full)
    with pytest.raises(NoSpace, match="kept for a day"):
        appended(path, pieces(b"12345678"))
    monkeypatch.undo()

    assert parts.size_of(path) == 5
    appended(path, pieces(b"678"))
    assert path.read_bytes() == b"12345678"


def test_nothing_is_written_beyond_the_end(path: Path) -> None:
    with pytest.raises(TooLarge):
        appended(path, pieces(b"1234", b"5678"), limit=6)

    assert path.read_bytes() == b"1234"


def test_one_writer_at_a_time(path: Path) -> None:
    with parts.held(path), pytest.raises(Conflict), parts.held(path):
        pass


def test_a_swept_part_is_gone(tmp_path: Path) -> None:
    with pytest.raises(NotFound), parts.held(tmp_path / "none"):
        pass


def test_a_long_piece_takes_little_memory(path: Path) -> None:
    with little_memory():
        appended(path, pieces(*[CHUNK] * (LARGE // len(CHUNK))))

    assert parts.size_of(path) == LARGE


def test_a_long_form_takes_little_memory(settings: Settings) -> None:
    left = [LARGE // len(CHUNK)]
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    messages = [head]

    async def receive() -> Message:
        body = messages.pop() if messages else CHUNK if left[0] else b"\r\n--b--\r\n"
        more = left[0] > 0
        left[0] -= body is CHUNK
        return {"type": "http.request", "body": body, "more_body": more}

    kind = (b"content-type", b"multipart/form-data; boundary=b")
    request = Request({"type": "http", "method": "POST", "headers": [kind]}, receive)

    with little_memory():
        received = asyncio.run(
            receiving.receive(request, settings=settings, storage=get_storage(settings))
        )

    assert received.size == LARGE


def test_finishing_a_large_upload_takes_little_memory(settings: Settings) -> None:
    upload = Upload(id="up_1", owner_id="usr_1", filename="a.jsonl", bytes=LARGE)
    upload.updated_at = utc_now()
    sparse(uploads.path_of(settings, upload))

    with little_memory(), uploads.whole(settings, OpenUpload(upload, LARGE)) as content:
        assert content.size == LARGE


def test_importing_a_large_file_takes_little_memory(settings: Settings, tmp_path: Path) -> None:
    sparse(tmp_path / "import" / "a.jsonl")
    changed = settings.model_copy(update={"import_folder": tmp_path / "import"})
    (file,) = importing.listing(changed).files

    told: list[float] = []

    with little_memory():
        _, size = importing.fetch(
            changed, file.id, key="a", progress=lambda share, _: told.append(share)
        )

    assert size == get_storage(changed).size("a") == LARGE
    assert told == sorted(told)


def test_a_file_of_the_folder_that_nobody_takes_leaves_no_copy(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "import").mkdir()
    (tmp_path / "import" / "a.jsonl").write_bytes(b"{}")
    changed = settings.model_copy(update={"import_folder": tmp_path / "import"})
    (file,) = importing.listing(changed).files

    with importing.taken(changed, file.id, fits=lambda _: None) as content:
        assert get_storage(changed).size(content.key) == 2
    assert not get_storage(changed).exists(content.key)


def sparse(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(LARGE)
