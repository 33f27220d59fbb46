"""One foreground process that runs a whole box, or the workers of another one.

Starts, in this order: Postgres and Valkey (unless URLs name others), migrations, server, workers.
Stops the workers first, so that a run saves its checkpoint, then the rest the other way round.
Knows commands and signals, and nothing of what a run is.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from app.devices.inventory import find_devices
from app.errors import Invalid
from app.settings import Settings, get_settings
from app.up import children, preflight
from app.up.children import Child
from app.up.output import Printer
from app.up.servers import Servers
from app.up.welcome import announcement

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


def up(settings: Settings) -> None:
    """Run a whole box until a signal ends it."""
    printer = Printer()
    data = settings.data_folder
    with preflight.sole_user(data):
        ledger = data / "children.json"
        children.end_leftovers(ledger)
        preflight.require_port(settings.host, settings.port)
        stopping = Stopping()
        servers = Servers(settings, printer)
        try:
            servers.start()
            _use(servers.addresses() | _own_addresses(settings))
            from app.up import first_start  # half of the start's time: after the refusals

            prepared = first_start.prepare(settings, servers.addresses()["DATABASE_URL"])
            members = [_server(settings, printer), *_workers(settings, printer)]
            crew = Crew(members, ledger, settings.stop_grace_seconds)
            crew.run(servers, stopping, announced=announcement(settings, prepared, printer))
        finally:
            servers.stop()
        printer.line("tunebox", "stopped")


def work(settings: Settings) -> None:
    """Run this machine's workers for a box elsewhere until a signal ends it."""
    if not (settings.database_url and settings.redis_url):
        raise Invalid(
            "A worker needs the addresses of its box: set DATABASE_URL, REDIS_URL and "
            "TUNEBOX_STORAGE_URL as there. On one machine `tunebox up` runs workers by itself."
        )
    printer = Printer()
    folder = settings.data_folder / "workers" / socket.gethostname()  # the data may be shared
    with preflight.sole_user(folder):
        ledger = folder / "children.json"
        children.end_leftovers(ledger)
        stopping = Stopping()
        _use(_own_addresses(settings))
        crew = Crew(_workers(settings, printer), ledger, settings.stop_grace_seconds)
        crew.run(Servers(settings, printer), stopping, announced=lambda: True)
        printer.line("tunebox", "stopped")


def _use(environment: dict[str, str]) -> None:
    """Let this process and its children read these settings."""
    os.environ.update(environment)  # noqa: TID251  # hands settings to the children
    get_settings.cache_clear()


def _own_addresses(settings: Settings) -> dict[str, str]:
    return {
        "TUNEBOX_DATA": str(settings.data_folder),
        "TUNEBOX_HOST": settings.host,
        "TUNEBOX_PORT": str(settings.port),
    }


def _server(settings: Settings, printer: Printer) -> Child:
    command = [
        *(sys.executable, "-m", "uvicorn", "app.main:app", "--no-access-log"),
        *("--host", settings.host, "--port", str(settings.port)),
        *("--timeout-graceful-shutdown", "5", "--log-level", "warning"),
    ]
    # It keeps nothing that a kill could lose, and must free its port for the next start.
    return Child("server", command, _environment(), printer, orphan_signal=signal.SIGKILL)


def _workers(settings: Settings, printer: Printer) -> list[Child]:
    """Return one worker for each device, and one for light work."""
    cards = sum(device.kind == "cuda" for device in find_devices())
    count = settings.workers if settings.workers is not None else max(cards, 1)
    names = [f"devices-{number}" for number in range(1, count + 1)]
    crew = [_worker(name, "devices", "1", printer) for name in names]
    return [*crew, _worker("light", "light", "2", printer)]


def _worker(name: str, queue: str, processes: str, printer: Printer) -> Child:
    command = [
        *(sys.executable, "-W", "ignore", "-m", "celery", "-q", "-A", "worker.main", "worker"),
        *("-Q", queue, "-c", processes, "-P", "prefork", "-n", f"{name}@%h"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"),
    ]
    # SIGTERM is Celery's warm shutdown: a run saves its checkpoint, then the worker ends at once.
    return Child(name, command, _environment(), printer)


def _environment() -> dict[str, str]:
    return os.environ.copy() | {"PYTHONUNBUFFERED": "1"}  # noqa: TID251  # for a child


@dataclass
class Crew:
    """The children of one supervisor, the server first if there is one."""

    members: Sequence[Child]
    ledger: Path
    grace: float

    def run(self, servers: Servers, stopping: Stopping, *, announced: Callable[[], bool]) -> None:
        """Start all, keep them running, and stop them in order once that is wished.

        Workers wait until the server is up: together they would only slow its start.
        """
        waiting = list(self.members)
        try:
            self._start(waiting, names=("server",))
            while not stopping.wishes:
                if waiting and announced():
                    self._start(waiting)
                self._tend()
                servers.tend()
                time.sleep(_TICK)
        finally:
            self._stop(stopping)

    def _start(self, waiting: list[Child], *, names: tuple[str, ...] = ()) -> None:
        """Start those of ``waiting`` with one of these names, or all of them."""
        for child in [child for child in waiting if not names or child.name in names]:
            child.start()
            waiting.remove(child)

    def _tend(self) -> None:
        """Start again who ended; keep the list of who runs."""
        for child in self.members:
            child.tend()
        children.remember(self.ledger, self.members)

    def _stop(self, stopping: Stopping) -> None:
        """End the workers, then the server."""
        self.members[0].printer.line(
            "tunebox", "stopping; a run saves its checkpoint first, Ctrl-C again hurries"
        )
        workers = [child for child in self.members if child.name != "server"]
        _end(workers, stopping, self.grace + _WORKER_MARGIN)
        _end([child for child in self.members if child not in workers], stopping, _SERVER_GRACE)
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
