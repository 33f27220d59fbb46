"""An upload on its way in: multipart parsed while it arrives, hashed, written to the storage.

Memory is constant: a chunk is parsed, hashed and written before the next is read. Whatever ends an
upload early (a lost connection, a full disk, a wrong field) leaves nothing behind. Knows HTTP's
multipart and the storage; nothing of datasets' tables.
"""

import errno
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, Any, TypeVar

from fastapi.concurrency import run_in_threadpool
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.errors import Invalid, NoSpace, TooLarge, Unsupported
from app.kit.ids import new_id
from app.kit.storage import RESERVE_BYTES, Storage, require_space
from app.settings import Settings

# `upload` and `import` are ids of what is here already, in the place of `file`.
ALLOWED = frozenset({"name", "format", "dataset", "upload", "import", "csrf_token"})
PASTED = "pasted.txt"  # what it holds is seen from its content
_MAX_FIELD_BYTES = 4096
_FORM_BYTES = 2**16  # what a form has beside its file, at most
_PLACE = "uploads"
_ABANDONED = timedelta(days=1)  # an upload that a killed server left behind
T = TypeVar("T")
Fits = Callable[[int], None]


@dataclass
class Received:
    """A file in the storage under a temporary key, with the form's other fields.

    Without ``has_file`` nothing lies there: a field names what is to be taken instead.
    """

    key: str
    has_file: bool = False
    filename: str = ""
    size: int = 0
    sha256: str = ""
    fields: dict[str, str] = field(default_factory=dict[str, str])


class _Form:
    """Takes the parser's callbacks: text fields into a dict, the file into the storage."""

    def __init__(self, target: IO[Any], received: Received, *, max_bytes: int, fits: Fits) -> None:
        self._target, self._received, self._max, self._fits = target, received, max_bytes, fits
        self._hash = hashlib.sha256()
        self._header, self._value = b"", b""
        self._name, self._text, self._is_file, self.files = "", b"", False, 0
        self.complete = False

    def callbacks(self) -> dict[str, Any]:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_done,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._name, self._text, self._is_file = "", b"", False
        self._disposition = b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _headers_done(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file"
        if self._is_file:
            self.files += 1
            self._received.has_file = True
            self._received.filename = base_name(options.get(b"filename", b""))
        elif self._name not in ALLOWED:
            raise Invalid.field(
                self._name[:80] or "form",
                "there is no such field; send file (or upload, import), name, format, dataset",
            )
        if self.files > 1:
            raise Invalid.field("file", "send one file at a time")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._text += data[start:end]
            if len(self._text) > _MAX_FIELD_BYTES:
                raise Invalid.field(self._name, f"use at most {_MAX_FIELD_BYTES} bytes")
            return
        chunk = data[start:end]
        self._received.size += len(chunk)
        if self._received.size > self._max:
            raise TooLarge(
                f"The file is larger than {self._max / 2**30:,.0f} GiB, the limit of this Tunebox. "
                "Split it, or ask an admin to raise TUNEBOX_MAX_UPLOAD_BYTES."
            )
        self._fits(self._received.size)
        self._hash.update(chunk)
        self._target.write(chunk)

    def _end(self) -> None:
        if not self._is_file and self._name:
            self._received.fields[self._name] = self._text.decode("utf-8", "replace").strip()

    def _finish(self) -> None:
        self.complete = True
        self._received.sha256 = self._hash.hexdigest()


def base_name(raw: bytes) -> str:
    """Return the last component of a client's file name, without control characters."""
    name = raw.decode("utf-8", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in name if char.isprintable())[:200].strip() or "upload.jsonl"


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise Unsupported("Send multipart/form-data with the fields file and name.")
    return options[b"boundary"]


def _require_room(request: Request, settings: Settings, fits: Fits) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit():
        if int(length) > settings.max_upload_bytes + 2**20:
            raise TooLarge(
                f"The file is larger than {settings.max_upload_bytes / 2**30:,.0f} GiB, the limit "
                "of this Tunebox. Split it, or ask an admin to raise TUNEBOX_MAX_UPLOAD_BYTES."
            )
        require_space(settings.data_folder, int(length))
        fits(max(0, int(length) - _FORM_BYTES))


async def receive(
    request: Request, *, settings: Settings, storage: Storage, fits: Fits = lambda _: None
) -> Received:
    """Read one upload into the storage; the caller takes or deletes ``key``.

    ``fits`` raises what the caller wants raised when the file's bytes are too many for its sender.
    Raises ``Unsupported``, ``Invalid``, ``TooLarge`` or ``NoSpace``, and then keeps nothing.
    """
    boundary = _boundary(request)
    _require_room(request, settings, fits)
    await run_in_threadpool(storage.sweep, _PLACE, older_than=_ABANDONED)
    received = Received(key=f"{_PLACE}/{new_id('up')}")
    try:
        with await run_in_threadpool(storage.open, received.key, "wb") as target:
            form = _Form(target, received, max_bytes=settings.max_upload_bytes, fits=fits)
            parser = MultipartParser(boundary, form.callbacks())  # pyright: ignore[reportArgumentType]
            async for chunk in request.stream():
                await run_in_threadpool(parser.write, chunk)
        _require_whole(form, received)
    except BaseException as error:
        await run_in_threadpool(storage.delete, received.key)
        raise _as_app_error(error) from error
    return received


def _require_whole(form: _Form, received: Received) -> None:
    if not form.complete:
        raise Invalid("The upload ends early. Nothing was kept; send it again.", code="truncated")
    named = [name for name in ("upload", "import") if received.fields.get(name)]
    if received.has_file + len(named) > 1:
        raise Invalid.field("file", "send one of file, upload and import")
    if not received.has_file and not named:
        raise Invalid.field("file", "choose a file to upload")


def _as_app_error(error: BaseException) -> BaseException:
    if isinstance(error, ClientDisconnect):
        return Invalid(
            "The connection was lost. Nothing was kept; send it again.", code="truncated"
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return NoSpace(
            f"The disk filled up during the upload (we keep {RESERVE_BYTES / 2**20:.0f} MiB free). "
            "Nothing was kept. Free some disk space, then try again."
        )
    if type(error).__module__.startswith("python_multipart"):
        return Invalid(
            "The upload is not valid multipart/form-data. Send it again.", code="truncated"
        )
    return error


def keep_text(text: str, *, storage: Storage, fields: dict[str, str]) -> Received:
    """Put pasted text into the storage as a file, with the ends of lines that files have.

    Browsers send each line's end as CR LF, and often none after the last one.
    """
    data = text.replace("\r\n", "\n").rstrip("\n").encode("utf-8", "replace") + b"\n"
    digest = hashlib.sha256(data).hexdigest()
    received = Received(f"{_PLACE}/{new_id('up')}", True, PASTED, len(data), digest, fields)
    try:
        with storage.open(received.key, "wb") as target:
            target.write(data)
    except OSError as error:
        storage.delete(received.key)
        raise _as_app_error(error) from error
    return received


async def keep_or_delete(storage: Storage, received: Received, store: Callable[[], T]) -> T:
    """Return what ``store`` makes of an upload; what it has not moved away is deleted."""
    try:
        return await run_in_threadpool(store)
    finally:
        await run_in_threadpool(storage.delete, received.key)
