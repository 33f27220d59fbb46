"""Starts a trainer under its shepherd, with an environment that holds no secret.

The one place where the worker starts a process. Knows no database.
"""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LOG_NAME = "log.txt"
_LOCK_NAME = ".lock"

# What a trainer may know of our environment; everything else stays here.
_ALLOWED = frozenset(
    {"HOME", "LANG", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH"}
    | {"VIRTUAL_ENV", "CC", "CXX", "TUNEBOX_TRAINER_THREADS", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)
_ALLOWED_PREFIXES = (
    *("LC_", "PYTHON", "CUDA_", "NVIDIA_", "NCCL_", "TORCH", "PYTORCH_", "TRITON_", "XDG_"),
    *("OMP_", "MKL_", "OPENBLAS_", "HF_HOME", "HF_HUB_CACHE", "UNSLOTH_", "TOKENIZERS_"),
)


@dataclass
class Trainer:
    """A running trainer. ``life`` is our end of the pipe: closing it ends the trainer too."""

    process: subprocess.Popen[bytes]
    life: int

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self.process.poll()

    def ask_to_stop(self) -> None:
        """Ask for a clean end, with the grace to save its work."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group now."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait()

    def close(self) -> None:
        """Give the pipe back; a trainer that still runs ends by it."""
        if self.life >= 0:
            os.close(self.life)
            self.life = -1


def try_lock(folder: Path) -> IO[bytes] | None:
    """Return the folder's lock, or None while any process of another attempt is alive."""
    file = (folder / _LOCK_NAME).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def start(
    command: Sequence[str], *, folder: Path, lock: IO[bytes], grace: float, extra: Mapping[str, str]
) -> Trainer:
    """Start ``command`` under a shepherd of its own, with the folder's lock."""
    reading, writing = os.pipe()
    shepherd = [
        *(sys.executable, "-m", "worker.shepherd", "--life", str(reading)),
        *("--lock", str(lock.fileno()), "--grace", str(grace), "--log", str(folder / LOG_NAME)),
    ]
    try:
        process = subprocess.Popen(
            [*shepherd, "--", *command],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(reading, lock.fileno()),
            env={**child_environment(os.environ.copy()), **extra},  # noqa: TID251  # for a child
        )
    finally:
        os.close(reading)
    return Trainer(process, writing)


def child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return what of ``ours`` a child may see: no database, no broker, no password, no token."""
    return {
        name: value
        for name, value in ours.items()
        if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)
    }


def device_environment(kind: str | None, indices: Sequence[int]) -> dict[str, str]:
    """Return the variables that show a child its leased cards, or none."""
    visible = ",".join(map(str, indices)) if kind == "cuda" else ""
    return {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def remove_stale(path: Path) -> None:
    """Remove a file of an earlier attempt."""
    with suppress(FileNotFoundError):
        path.unlink()
