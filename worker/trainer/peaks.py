"""The most memory that this process held: of its card, or of the machine where there is none.

On a card torch itself counts, and refuses what does not fit. A CPU refuses nothing until the kernel
kills: a thread watches what the process holds and gives up in time. Knows nothing of training.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOOK_SECONDS = 0.005
_SPARE = 0.02  # of what is free; left to those who share the machine


@dataclass(frozen=True)
class Peak:
    """Bytes: at most ``used`` by tensors, at most ``held`` by the process, of ``available``."""

    used: int
    held: int
    available: int


class CardPeak:
    """What torch held of the one visible card; ``limit`` makes the card smaller."""

    def __init__(self, limit: int | None = None) -> None:
        import torch  # only where a card is

        self._cuda = torch.cuda
        free, total = torch.cuda.mem_get_info()
        self._available = min(free, limit or total)
        if limit and limit < total:
            torch.cuda.set_per_process_memory_fraction(limit / total)
        torch.cuda.reset_peak_memory_stats()

    def read(self) -> Peak:
        """Return the peak so far."""
        used, held = self._cuda.max_memory_allocated(), self._cuda.max_memory_reserved()
        return Peak(used, held, self._available)

    def close(self) -> None:
        """End watching."""


class ProcessPeak:
    """What this process held of the machine's memory; past the limit ``give_up`` is called once.

    ``give_up`` runs in the watching thread, and must end the process.
    """

    def __init__(self, limit: int | None, give_up: Callable[[Peak], None]) -> None:
        self._process = psutil.Process()
        free = available_bytes() + self._process.memory_info().rss
        self._available = min(free, limit or free)
        self._give_up = give_up
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()

    def read(self) -> Peak:
        """Return the peak so far; the kernel's own count where it tells one."""
        most = max(self._most, self._process.memory_info().rss, _high_water())
        return Peak(most, most, self._available)

    def close(self) -> None:
        """End watching."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        most_allowed = self._available * (1 - _SPARE)
        while not self._ended.wait(_LOOK_SECONDS):
            self._most = max(self._most, self._process.memory_info().rss)
            if self._most > most_allowed:
                self._give_up(self.read())
                return


def available_bytes() -> int:
    """Return what this machine, or the container that we run in, can still give."""
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, max(0, limit - used))
    return free


def _high_water() -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
