"""Where the embedded servers keep files and sockets, and as whom they run.

Knows neither Postgres nor Valkey: folders, locks, users and processes only.
"""

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from app.errors import Unavailable

_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534
_LONGEST_SOCKET = 100  # sun_path holds 108 bytes on Linux and 104 on macOS
_SMALLEST_DISK = 192 * 2**20  # a new cluster with its first write-ahead log


class EmbeddedFailure(Unavailable):
    """An embedded server cannot run; the text is one sentence for the user, with the cure."""


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``'s start lock, so that two processes do not start one server twice."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(folder: Path, *, empty: bool) -> None:
    """Make ``folder``, or say in one sentence why it cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise EmbeddedFailure(
            f"{folder} cannot be written ({error.strerror}); "
            "choose another data folder with --data, or change its rights."
        ) from error
    require_space(folder, _SMALLEST_DISK if empty else _SMALLEST_DISK // 8)


def require_space(folder: Path, needed: int) -> None:
    """Raise ``EmbeddedFailure`` unless ``needed`` bytes are free on the disk of ``folder``."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EmbeddedFailure(
            f"The disk of {folder} has {free / 2**20:,.0f} MiB left and {needed / 2**20:,.0f} MiB "
            "are needed; free some space, or choose another data folder with --data."
        )


def short_name(base: Path) -> str:
    """Return a short stable name for a folder."""
    return "tunebox-" + hashlib.sha256(str(base).encode()).hexdigest()[:12]


def socket_folder(base: Path, longest_name: str) -> Path:
    """Return a folder only we can enter, whose path is short enough for a Unix socket."""
    folder = base / "run"
    if len(str(folder / longest_name)) > _LONGEST_SOCKET:
        folder = Path(tempfile.gettempdir()) / f"{short_name(base)}-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = folder.stat().st_uid
    if os.getuid() and owner != os.getuid():
        raise EmbeddedFailure(
            f"{folder} belongs to someone else; remove it, or use another --data."
        )
    folder.chmod(0o700)
    return folder


@lru_cache
def user_namespaces() -> bool:
    """Tell whether this machine lets us make user namespaces (tried in a child)."""
    if platform.system() != "Linux":
        return False
    probe = f"import ctypes,sys;sys.exit(ctypes.CDLL(None).unshare({_CLONE_NEWUSER}) != 0)"
    return subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def _enter_namespace() -> None:
    """Become user 65534 in a new user namespace, in the child before exec.

    Postgres refuses uid 0. Seen from inside we are nobody; from outside the files stay ours, no
    system user is made and nothing is chmod-ed.
    """
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_NOBODY} {uid} 1"),
        ("gid_map", f"{_NOBODY} {gid} 1"),
    ):
        Path(f"/proc/self/{name}").write_text(text)


def unprivileged(*owned: Path) -> dict[str, Any]:
    """Return ``Popen`` arguments under which Postgres runs even when we are root.

    Where user namespaces are forbidden (some containers) ``owned`` goes to the user nobody.
    """
    if os.geteuid() != 0:
        return {}
    if user_namespaces():
        return {"preexec_fn": _enter_namespace}
    import pwd

    nobody = pwd.getpwnam("nobody")
    for folder in owned:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def reachable(base: Path) -> Path:
    """Return ``base``, or a folder below /var/tmp where the user nobody cannot enter ``base``."""
    if os.geteuid() != 0 or user_namespaces():
        return base
    closed = [p for p in (base, *base.parents) if p.exists() and not p.stat().st_mode & 0o001]
    return Path("/var/tmp") / short_name(base) if closed else base  # noqa: S108  # a private 0700 folder within


def server_environment(home: Path) -> Mapping[str, str]:
    """Return the small environment the servers get: no secrets, a fixed locale and clock."""
    return {"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"}


def is_running(pid: int, name: str) -> bool:
    """Tell whether process ``pid`` lives and its command contains ``name``."""
    try:
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and name in " ".join(process.cmdline())
    except psutil.Error:
        return False


def tail(path: Path, characters: int = 400) -> str:
    """Return the end of a log file on one line."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return " ".join(text[-characters:].split())
