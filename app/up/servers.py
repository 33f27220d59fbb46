"""The database and the broker of a box: the user's own by URL, else embedded ones kept running.

Knows which environment variables carry their addresses to our processes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.embedded import places
from app.embedded.places import EmbeddedFailure
from app.embedded.postgres import Postgres
from app.embedded.valkey import Valkey
from app.settings import Settings
from app.up.output import Printer

_RETRY_SECONDS = 5.0


class Servers:
    """Starts what no URL replaces, watches it, and stops it in order."""

    def __init__(self, settings: Settings, printer: Printer) -> None:
        self._settings = settings
        self._printer = printer
        self._postgres = None if settings.database_url else postgres_of(settings)
        self._valkey = None if settings.redis_url else Valkey(settings.data_folder / "valkey")
        self._pids: dict[str, int] = {}
        self._next_try = 0.0

    def start(self) -> None:
        """Start or adopt the embedded servers."""
        for name, server in self._embedded():
            server.start()
            self._pids[name] = server.pid() or 0

    def addresses(self) -> dict[str, str]:
        """Return the environment that tells our processes where the servers are."""
        database = self._postgres.url() if self._postgres else self._settings.database_url
        redis = self._valkey.url if self._valkey else self._settings.redis_url
        assert database
        assert redis
        return {"DATABASE_URL": database, "REDIS_URL": redis}

    def tend(self) -> None:
        """Start a server again that was killed; while it cannot start, try every few seconds."""
        for name, server in self._embedded():
            if places.is_running(self._pids[name], "") or time.monotonic() < self._next_try:
                continue
            self._printer.line(name, "is gone; starting it again")
            if server.process:
                server.process.poll()
            try:
                server.start()
                self._pids[name] = server.pid() or 0
                self._printer.line(name, "runs again")
            except EmbeddedFailure as failure:
                self._next_try = time.monotonic() + _RETRY_SECONDS
                self._printer.line(name, failure.detail)

    def stop(self) -> None:
        """Stop Valkey, then Postgres."""
        for _, server in reversed(self._embedded()):
            server.stop()

    def _embedded(self) -> list[tuple[str, Postgres | Valkey]]:
        pairs = [("postgres", self._postgres), ("valkey", self._valkey)]
        return [(name, server) for name, server in pairs if server]


def postgres_of(settings: Settings) -> Postgres:
    """Return the embedded Postgres of a data folder."""
    return Postgres(settings.data_folder / "postgres")


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Give the database's URL to a short command; stop Postgres after it if it had to start."""
    if settings.database_url:
        yield settings.database_url
        return
    postgres = postgres_of(settings)
    ran = (postgres.data / "PG_VERSION").exists() and postgres.answers()
    postgres.start()
    try:
        yield postgres.url()
    finally:
        if not ran:
            postgres.stop()
