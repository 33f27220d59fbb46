"""SIGTERM: finish the step, save, leave. ``stop.json`` in the job folder says what the user wants.

Knows nothing of training: a recipe asks ``stop.mode`` at each place where it can leave cleanly.
"""

import json
import os
import signal
import threading
import time
from enum import StrEnum
from pathlib import Path
from types import FrameType

from app.jobs.state import EXIT_CANCELLED, EXIT_STOPPED

FILE_NAME = "stop.json"
_WATCH_SECONDS = 0.5


class Leave(StrEnum):
    """How a trainer that was asked to stop leaves."""

    SAVE = "save"  # keep the work as the run's result
    CANCEL = "cancel"
    PAUSE = "pause"
    SHUTDOWN = "shutdown"  # the worker goes away; the run goes on elsewhere or later


class Stopped(Exception):  # no error: the way out of a recipe
    """The recipe ended before its end, as asked."""

    def __init__(self, mode: Leave) -> None:
        super().__init__(f"stopped: {mode}")
        self.mode = mode

    @property
    def exit_code(self) -> int:
        """The process's exit code."""
        return EXIT_CANCELLED if self.mode is Leave.CANCEL else EXIT_STOPPED


def leave_it_to(parent: int) -> None:
    """Let the parent alone be asked to stop, and end when it is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


class Stop:
    """Whether a stop was asked for, and which. One a process."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME
        self.asked = False

    def listen(self) -> None:
        """Take SIGTERM and SIGINT as a request; a second one changes nothing."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    @property
    def mode(self) -> Leave | None:
        """What was asked for, read now; None while nothing was."""
        if not self.asked:
            return None
        try:
            return Leave(json.loads(self._file.read_text())["mode"])
        except (OSError, ValueError, KeyError, TypeError):
            return Leave.SHUTDOWN

    def check(self) -> None:
        """Raise ``Stopped`` if a stop was asked for."""
        if mode := self.mode:
            raise Stopped(mode)
