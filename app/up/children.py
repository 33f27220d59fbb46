"""A child process that is kept running: its start, its log lines, its back-off, its end.

Knows no particular program. Children live in their own sessions, so that a Ctrl-C reaches only
us, and end with us even when we are killed (Linux); see ``end_leftovers`` for elsewhere.
"""

import ctypes
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO

import psutil

from app.up.output import Printer

_PR_SET_PDEATHSIG = 1
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 30.0
_STEADY = 60.0  # seconds after which a child counts as well again


def _ending_with_parent(number: int) -> Callable[[], None] | None:
    """Return what makes a child get signal ``number`` when its parent dies (Linux only)."""
    if platform.system() != "Linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)

    return ask


@dataclass
class Child:
    """One program to be kept running. Start it from the main thread only.

    Linux ties the parent's death signal to the thread that started the child.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    printer: Printer
    orphan_signal: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    _wait: float = _FIRST_WAIT
    _started: float = 0.0
    _due: float | None = field(default=None)

    def start(self) -> None:
        """Start the program and print what it says."""
        self._due, self._started = None, time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_ending_with_parent(self.orphan_signal),  # noqa: PLW1509  # one prctl call
        )
        assert self.process.stdout
        Thread(target=self._print, args=(self.process.stdout,), daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether the program runs at the moment."""
        return self.process is not None and self.process.poll() is None

    def tend(self) -> None:
        """Start the program again if it ended, later each time it fails soon after a start."""
        if self.is_running or self.process is None:
            return
        now = time.monotonic()
        if self._due is None:
            self._wait = _FIRST_WAIT if now - self._started > _STEADY else self._wait
            self._due = now + self._wait
            how = _ending(self.process.returncode)
            self.printer.line(self.name, f"{how}; starting again in {self._wait:g} s")
            self._wait = min(self._wait * 2, _LONGEST_WAIT)
        elif now >= self._due:
            self.start()

    def signal(self, number: int) -> None:
        """Send a signal to the program, not to what it started."""
        if self.process and self.is_running:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End the program and its session at once."""
        if self.process and self.is_running:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _print(self, stream: IO[bytes]) -> None:
        for raw in stream:
            if text := raw.decode(errors="replace").rstrip():
                self.printer.line(self.name, text)


def _ending(code: int) -> str:
    """Say in words how a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def remember(path: Path, children: Sequence[Child]) -> None:
    """Write down who runs, for ``end_leftovers`` of the next start."""
    running = [child for child in children if child.process and child.is_running]
    rows = [row for child in running if (row := _identity(child))]
    text = json.dumps(rows)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _identity(child: Child) -> tuple[int, float, int] | None:
    assert child.process
    try:
        born = psutil.Process(child.process.pid).create_time()
    except psutil.Error:
        return None
    return child.process.pid, born, child.orphan_signal


def end_leftovers(path: Path, *, timeout: float = 5) -> None:
    """End what a killed `tunebox up` left, as its death signal would have.

    On Linux the kernel has already sent it; a second one would hurry a worker that saves its
    work, so there only those are waited for that are killed outright.
    """
    try:
        rows: list[tuple[int, float, int]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return
    outright: list[psutil.Process] = []
    for pid, born, number in rows:
        process = _same(pid, born)
        if process and (platform.system() != "Linux" or number == signal.SIGKILL):
            process.send_signal(number)
            outright += [process] if number == signal.SIGKILL else []
    psutil.wait_procs(outright, timeout=timeout)
    path.unlink(missing_ok=True)


def _same(pid: int, born: float) -> psutil.Process | None:
    """Return the process if it is still the one that was written down."""
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - born) < 1 else None
    except psutil.Error:
        return None
