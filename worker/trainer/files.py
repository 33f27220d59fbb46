"""Files that are either whole or not there. Knows nothing of what is in them."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write aside, fsync, rename: a reader or a crash never sees half of it."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def sync_folder(folder: Path, *, deep: bool = True) -> None:
    """Make the names in a folder durable, and if ``deep`` what its files hold."""
    for path in folder.rglob("*") if deep else ():
        if path.is_file():
            _fsync(path)
    _fsync(folder)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def folder_bytes(folder: Path) -> int:
    """Return how many bytes the files below a folder hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
