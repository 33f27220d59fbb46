"""Files of a folder on this box, as datasets: listed by opaque ids, copied into the storage.

Off unless an admin names the folder (``TUNEBOX_IMPORT_FOLDER``). A client sends an id that we gave,
never a path; links are not followed, and every folder on the way is opened without following any,
so that nothing outside can be reached, not even by who swaps a file for a link at the right moment.
Knows no HTTP and no table.
"""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from app.datasets.arriving.copying import PLACE, hashed, require_size
from app.datasets.arriving.quota import Fits
from app.datasets.service import Content
from app.errors import Conflict, Invalid, NoSpace
from app.kit.ids import new_id
from app.kit.storage import Storage, get_storage
from app.settings import Settings

MOST_FILES = 1000
LARGE = 128 * 2**20  # bytes: from here on the copy is the job's, and nobody waits for it
_MOST_LOOKED_AT = 50_000
_DEEPEST = 8
_CLONE = 0x40049409  # Linux's FICLONE: the copy shares the blocks of the original
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not hold us up

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ImportFile:
    """A file that can be taken: ``name`` is shown, ``id`` is sent."""

    id: str
    name: str
    bytes: int
    changed_at: datetime


@dataclass(frozen=True)
class Listing:
    """The files of the folder by name; ``more`` says that there are others beyond the limit."""

    files: tuple[ImportFile, ...]
    more: bool


def listing(settings: Settings) -> Listing:
    """Return the files below the import folder; ``Conflict`` while imports are off."""
    found: list[ImportFile] = []
    root = _root(settings)
    for path in _walk(root):
        if len(found) == MOST_FILES:
            return Listing(tuple(sorted(found, key=_by_name)), more=True)
        with suppress(OSError):  # deleted this moment
            found.append(_file(root, path))
    return Listing(tuple(sorted(found, key=_by_name)), more=False)


def _by_name(file: ImportFile) -> str:
    return file.name.casefold()


def _root(settings: Settings) -> Path:
    if settings.import_folder is None:
        raise Conflict(
            "Imports are off. An admin turns them on by setting TUNEBOX_IMPORT_FOLDER to a folder "
            "of this box.",
            code="imports_off",
        )
    root = settings.import_folder.expanduser().resolve()
    if not root.is_dir():
        raise Conflict(
            "The import folder is not there. An admin makes it, or corrects TUNEBOX_IMPORT_FOLDER.",
            code="imports_off",
        )
    return root


def _walk(root: Path) -> Iterator[Path]:
    """Yield the plain files below ``root``, without hidden ones, links, and what is too deep."""
    looked_at = 0
    folders = [(root, 0)]
    while folders:
        folder, depth = folders.pop(0)
        with suppress(OSError), os.scandir(folder) as entries:  # others may delete or forbid it
            for entry in sorted(entries, key=lambda one: one.name):
                looked_at += 1
                if looked_at > _MOST_LOOKED_AT:
                    return
                if entry.name.startswith(".") or entry.is_symlink():
                    continue
                if entry.is_dir(follow_symlinks=False) and depth < _DEEPEST:
                    folders.append((Path(entry.path), depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def _id(root: Path, path: Path) -> str:
    return "imp_" + hashlib.sha256(os.fsencode(path.relative_to(root))).hexdigest()[:24]


def _file(root: Path, path: Path) -> ImportFile:
    facts = path.lstat()
    return ImportFile(
        id=_id(root, path),
        name=_shown(str(path.relative_to(root))),
        bytes=facts.st_size,
        changed_at=datetime.fromtimestamp(facts.st_mtime, UTC),
    )


def _shown(name: str) -> str:
    """Return a file's name as text, whatever bytes it has on the disk."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


@contextmanager
def taken(settings: Settings, import_id: str, *, fits: Fits) -> Iterator[Content]:
    """Give the content of a listed file: copied into the storage, or where it is if it is large.

    A copy that nobody took is deleted. Raises ``Invalid`` for an id that is not listed,
    ``TooLarge`` or ``NoSpace``.
    """
    storage, key = get_storage(settings), f"{PLACE}/{new_id('up')}"
    try:
        with _opened(settings, import_id) as (source, name):
            size = os.fstat(source.fileno()).st_size
            require_size(settings, size)
            fits(size)
            if size < LARGE:
                sha256, size = _copied(storage, source, key)
                content = Content(key, name, size, sha256)
            else:
                content = Content(key, name, size, "", import_id)
        yield content
    finally:
        storage.delete(key)


def fetch(settings: Settings, import_id: str, *, key: str, progress: Progress) -> tuple[str, int]:
    """Copy a listed file to a place in the storage; return its hash and size.

    Raises as ``taken`` does; what was copied until then stays.
    """
    storage = get_storage(settings)
    with _opened(settings, import_id) as (source, _):
        size = os.fstat(source.fileno()).st_size
        require_size(settings, size)

        def told(done: int) -> None:
            share = min(1.0, done / max(1, size))
            progress(share, f"copying: {done / 2**20:,.0f} of {size / 2**20:,.0f} MiB")

        return _copied(storage, source, key, told)


def _copied(
    storage: Storage,
    source: IO[bytes],
    key: str,
    told: Callable[[int], None] = lambda _bytes: None,
) -> tuple[str, int]:
    """Copy a file to ``key``; where the file system can share blocks it costs no copy."""
    local = storage.local_path(key)
    try:
        with storage.open(key, "wb") as target:
            if local is None or not _cloned(source, target):
                return hashed(source, target, told=told), source.tell()
        with local.open("rb") as clone:
            return hashed(clone, told=told), clone.tell()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise NoSpace("The disk is full. Free some disk space, then import again.") from error


def _cloned(source: IO[bytes], target: IO[bytes]) -> bool:
    try:
        fcntl.ioctl(target.fileno(), _CLONE, source.fileno())
    except (OSError, AttributeError):  # another file system, or no such call on this machine
        return False
    return True


@contextmanager
def _opened(settings: Settings, import_id: str) -> Iterator[tuple[IO[bytes], str]]:
    """Open a listed file for reading; gives it with its name."""
    root = _root(settings)
    found = next((path for path in _walk(root) if _id(root, path) == import_id), None)
    if found is None:
        raise _missing()
    *folders, name = found.relative_to(root).parts
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part, flags in [*((folder, _FOLDER) for folder in folders), (name, _FILE)]:
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError as error:
        os.close(descriptor)
        raise _missing() from error
    with os.fdopen(descriptor, "rb") as stream:
        if not plain:
            raise _missing()
        yield stream, _shown(name)


def _missing() -> Invalid:
    return Invalid.field(
        "import", "there is no such file in the import folder now; reload the list, then choose"
    )
