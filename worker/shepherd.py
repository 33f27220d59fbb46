"""Runs one command in its own process group and leaves nothing of it behind.

    python -m worker.shepherd --life FD --lock FD --grace SECONDS --log FILE -- command…

The worker holds the only writing end of the pipe ``--life``: when it is gone, or at SIGTERM, the
group gets SIGTERM, then a grace to save its work, then SIGKILL; SIGQUIT leaves out the grace.
The lock is passed on and so lasts as long as any process of the group. The exit code is the
command's own, 128 + the signal's number if one killed it. Knows neither jobs nor database.
"""

import argparse
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TICK = 0.05
_SWEEPS = 100  # times _TICK: how long the group may take to vanish after SIGKILL


class Shepherd:
    """One command, its process group and what was asked of us."""

    def __init__(
        self, command: list[str], *, life: int, lock: int, grace: float, log: Path
    ) -> None:
        self._life, self._grace = life, grace
        self._asked = self._hurry = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, lambda number, _frame: self._hear(number))
        _prctl(_PR_SET_CHILD_SUBREAPER)
        with log.open("ab", buffering=0) as output:
            self._child = subprocess.Popen(  # an argument list of our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # this process has one thread
            )

    def _hear(self, number: int) -> None:
        self._asked = True
        self._hurry = self._hurry or number == signal.SIGQUIT

    def run(self) -> int:
        """Wait for the command or for the end of the worker; return the exit code."""
        while self._child.poll() is None and not self._asked:
            self._look()
        if self._child.poll() is None:
            self._end_gently()
            self._signal(signal.SIGKILL)
        code = self._child.wait()
        self._sweep()
        return 128 - code if code < 0 else code

    def _look(self) -> None:
        """Wait a moment, or less if the worker is gone."""
        ready, _, _ = select.select([self._life], [], [], _TICK)
        if ready and os.read(self._life, 1) == b"":
            self._asked = True

    def _end_gently(self) -> None:
        self._signal(signal.SIGTERM)
        end = time.monotonic() + self._grace
        while self._child.poll() is None and time.monotonic() < end and not self._hurry:
            time.sleep(_TICK)

    def _sweep(self) -> None:
        """Kill and reap what the command left behind, be it in its group or adopted by us."""
        self._signal(signal.SIGKILL)
        for _ in range(_SWEEPS):
            left = psutil.Process().children(recursive=True)
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not left:
                return
            time.sleep(_TICK)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)


def _prctl(option: int, value: int = 1) -> None:
    """Set a Linux process option; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Read the arguments and keep watch."""
    parser = argparse.ArgumentParser(prog="worker.shepherd")
    parser.add_argument("--life", type=int, required=True)
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    shepherd = Shepherd(command, life=given.life, lock=given.lock, grace=given.grace, log=given.log)
    return shepherd.run()


if __name__ == "__main__":
    sys.exit(main())
