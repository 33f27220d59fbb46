"""One foreground process that runs a whole box, or the workers of another one.

Starts, in this order: Postgres and Valkey (unless URLs name others), migrations, server, workers.
Stops the workers first, so that a run saves its checkpoint, then the rest the other way round.
Knows commands and signals, and nothing of what a run is.
"""

import os
import signal
import socket
import sys

from app.devices.inventory import find_devices
from app.errors import Invalid
from app.settings import Settings, get_settings
from app.up import children, preflight
from app.up.children import Child
from app.up.crew import Crew, Stopping
from app.up.output import Printer
from app.up.servers import Servers
from app.up.welcome import announcement


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
            members = [_server(settings, printer), *_workers(settings, printer)]
            with Crew(members, ledger, settings.stop_grace_seconds, stopping) as crew:
                _start(settings, crew, servers, printer)
        finally:
            servers.stop()
        printer.line("tunebox", "stopped")


def _start(settings: Settings, crew: Crew, servers: Servers, printer: Printer) -> None:
    """Prepare the database and run the crew.

    Where an earlier start has prepared the tables for this very code, the server need not wait
    for the check that they are right.
    """
    tables = None if settings.database_url else settings.data_folder / "tables"
    if tables and tables.exists() and tables.read_text() == preflight.tables_wanted():
        crew.start("server")
    from app.up import first_start  # half of the start's time, so after the refusals

    prepared = first_start.prepare(settings, servers.addresses()["DATABASE_URL"])
    if tables:
        tables.write_text(preflight.tables_wanted())
    crew.run(servers, announced=announcement(settings, prepared, printer))


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
        members, servers = _workers(settings, printer), Servers(settings, printer)
        with Crew(members, ledger, settings.stop_grace_seconds, stopping) as crew:
            crew.run(servers, announced=lambda: True)
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
