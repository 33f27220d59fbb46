"""Where bytes live: uploads and results through fsspec, job folders and models on this machine.

The only module that builds paths. Clients never send one: they send ids, which are checked here
against escapes. Knows no feature.
"""

import errno
import re
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import fsspec

from app.errors import Invalid, NoSpace
from app.kit.clock import utc_now
from app.settings import Settings

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_NO_LINKS = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
RESERVE_BYTES = 256 * 2**20  # left free, so that Postgres and checkpoints can still write


def safe_part(part: str) -> str:
    """Return ``part`` if it is one harmless path component, else raise ``Invalid``."""
    if not _SAFE.fullmatch(part) or ".." in part:
        raise Invalid(f"{part[:80]!r} cannot be part of a path; use letters, digits, '.', '_', '-'")
    return part


class Storage:
    """Files under the storage URL, addressed by keys such as ``datasets/ver_x/original``."""

    def __init__(self, url: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(url)
        self._url = url

    def _path(self, key: str) -> str:
        return "/".join([self._root.rstrip("/"), *(safe_part(part) for part in key.split("/"))])

    def open(self, key: str, mode: str = "rb") -> IO[Any]:
        """Open ``key``; folders are made when writing."""
        path = self._path(key)
        if "w" in mode:
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        return self._fs.open(path, mode)

    def exists(self, key: str) -> bool:
        """Tell whether ``key`` is there."""
        return bool(self._fs.exists(self._path(key)))

    def size(self, key: str) -> int:
        """Return the size of ``key`` in bytes."""
        return int(self._fs.size(self._path(key)))

    def move(self, source: str, target: str) -> None:
        """Rename ``source`` to ``target``; atomic on a local file system."""
        self._fs.makedirs(self._path(target).rsplit("/", 1)[0], exist_ok=True)
        self._fs.mv(self._path(source), self._path(target))

    def link(self, source: str, target: str) -> None:
        """Let ``target`` be the same bytes as ``source``: one file with two names, or a copy."""
        self._fs.makedirs(self._path(target).rsplit("/", 1)[0], exist_ok=True)
        if self.local_path(source) is not None:
            try:
                Path(self._path(target)).hardlink_to(self._path(source))
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return
        self._fs.cp_file(self._path(source), self._path(target))

    def delete(self, key: str) -> None:
        """Remove ``key`` with all below it; nothing happens if it is not there."""
        if self._fs.exists(self._path(key)):
            self._fs.rm(self._path(key), recursive=True)

    def local_path(self, key: str) -> Path | None:
        """Return where ``key`` lies on this machine, or None if the storage is remote."""
        return Path(self._path(key)) if self._url.startswith(("file:", "/")) else None

    def here(self, key: str, folder: Path) -> Path:
        """Return where ``key`` lies on this machine; one elsewhere is fetched into ``folder``."""
        local = self.local_path(key)
        if local is not None:
            return local
        target = folder / key.rsplit("/", 1)[-1]
        if not target.exists():
            self.fetch(key, target)
        return target

    def sweep(self, folder: str, *, older_than: timedelta) -> None:
        """Delete what lies in ``folder`` and was last written longer ago than ``older_than``."""
        path = self._path(folder)
        if not self._fs.exists(path):
            return
        for found in self._fs.ls(path, detail=False):
            with suppress(FileNotFoundError):  # moved or swept by another request this moment
                if utc_now() - self._fs.modified(found) > older_than:
                    self._fs.rm(found)

    def fetch(self, key: str, target: Path) -> None:
        """Copy ``key`` to the local file ``target``."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(self._path(key), str(target))


def get_storage(settings: Settings) -> Storage:
    """Return the storage that the settings name."""
    return Storage(settings.storage)


def job_folder(settings: Settings, job_id: str) -> Path:
    """Return the folder of a job on this machine (made by whoever starts it)."""
    return settings.data_folder / "jobs" / safe_part(job_id)


def model_folder(settings: Settings, name: str) -> Path:
    """Return a folder below the models folder; a link that leads outside is refused."""
    root = settings.models_folder
    path = (root / safe_part(name)).resolve()
    if path != root and root not in path.parents:
        raise Invalid.field("folder", "the folder must lie below the models folder")
    return path


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise ``NoSpace`` unless ``needed_bytes`` fit on the disk of ``folder`` with a reserve."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes + RESERVE_BYTES:
        raise NoSpace(
            f"{needed_bytes / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} MiB are free. "
            "Free some disk space, then try again."
        )
