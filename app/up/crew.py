"""The server and the workers of one box, kept running together and stopped in the right order.

Knows no command, no settings and nothing of what a run is.
"""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from app.up import children
from app.up.children import Child
from app.up.servers import Servers

_TICK = 0.2
_SERVER_GRACE = 8.0
_WORKER_MARGIN = 15.0  # beyond the trainer's own grace
_HURRY = 3.0


class Stopping:
    """Counts the wishes to stop: one is for an orderly end, two are for a hurried one."""

    def __init__(self) -> None:
        self.wishes = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._wished)

    def _wished(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.wishes += 1


@dataclass
class Crew:
    """The children of one supervisor, the server first if there is one."""

    members: Sequence[Child]
    ledger: Path
    grace: float
    stopping: Stopping

    def __enter__(self) -> Self:
        """Return the crew, which is stopped in order when the block ends, whatever ends it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers, then the server."""
        self._stop()

    def start(self, *names: str) -> None:
        """Start those with one of these names who do not run yet, or all of them."""
        for child in self.members:
            if child.process is None and (not names or child.name in names):
                child.start()

    def run(self, servers: Servers, *, announced: Callable[[], bool]) -> None:
        """Start all and keep them running until a stop is wished.

        Workers wait until the server is up: together they would only slow its start.
        """
        self.start("server")
        ready = False
        while not self.stopping.wishes:
            if not ready and (ready := announced()):
                self.start()
            self._tend()
            servers.tend()
            time.sleep(_TICK)

    def _tend(self) -> None:
        """Start again who ended; keep the list of who runs."""
        for child in self.members:
            child.tend()
        children.remember(self.ledger, self.members)

    def _stop(self) -> None:
        """End the workers, then the server."""
        self.members[0].printer.line(
            "tunebox", "stopping; a run saves its checkpoint first, Ctrl-C again hurries"
        )
        workers = [child for child in self.members if child.name != "server"]
        _end(workers, self.stopping, self.grace + _WORKER_MARGIN)
        _end(
            [child for child in self.members if child not in workers], self.stopping, _SERVER_GRACE
        )
        self.ledger.unlink(missing_ok=True)


def _end(group: Sequence[Child], stopping: Stopping, grace: float) -> None:
    """Ask a group to end, wait, and kill what is left; a second wish shortens the wait."""
    for child in group:
        child.signal(signal.SIGTERM)
    deadline, hurried = time.monotonic() + grace, False
    while any(child.is_running for child in group) and time.monotonic() < deadline:
        if stopping.wishes > 1 and not hurried:
            hurried = True
            deadline = min(deadline, time.monotonic() + _HURRY)
            for child in group:
                child.signal(signal.SIGTERM)
        time.sleep(0.05)
    for child in group:
        child.kill()
