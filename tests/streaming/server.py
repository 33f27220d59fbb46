"""A real server process and clients of its sockets, for tests and the benchmark."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from sqlalchemy.orm import Session
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from app.auth import service
from app.auth.roles import Actor
from app.jobs import service as jobs
from app.jobs.events import EventType, JobEvent
from app.kit.clock import utc_now
from app.kit.db import transaction

COOKIE = "tunebox_session"


class Server:
    """uvicorn in a process of its own, on a port that stays the same across restarts."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        """Return the origin of the server's own pages."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Server":
        """Start and wait until it answers."""
        command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "app.main:app"]
        options = ["--port", str(self.port), "--log-level", "warning"]
        options += ["--timeout-graceful-shutdown", "1"]
        environment = os.environ.copy()  # noqa: TID251  # for a child
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, *options], stdout=output, stderr=output, env=environment
            )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError), urlopen(f"{self.origin}/healthz", timeout=1):
                return self
            time.sleep(0.05)
        raise AssertionError(self._log.read_text(errors="replace")[-4000:])

    def kill(self) -> None:
        """End it without warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def open(self, path: str, **headers: str) -> Connection:
        """Open a socket."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return connect(
            f"ws://127.0.0.1:{self.port}{path}", additional_headers=given, max_size=2**26
        )


def cookie_of(session: Session, actor: Actor) -> str:
    """Return the cookie header of a browser in which ``actor`` is signed in."""
    user = service.repository.user(session, actor.id)
    assert user is not None
    value = service.start_session(session, user=user, user_agent="test", address="127.0.0.1")
    return f"{COOKIE}={value}"


def append(url: str, job_id: str, first_step: int, count: int) -> None:
    """Store and publish metrics, as the recorder does, in batches of ten."""
    for start in range(first_step, first_step + count, 10):
        steps = range(start, min(start + 10, first_step + count))
        events = [
            JobEvent(
                seq=0,
                type=EventType.METRICS,
                at=utc_now(),
                step=step,
                values={"train/loss": 1 / (step + 1)},
            )
            for step in steps
        ]
        with transaction(url) as session:
            jobs.append_events(session, job_id, events)


def frames(client: Connection, *, until_seq: int, seconds: float = 20) -> list[dict[str, Any]]:
    """Return frames up to the one that holds ``until_seq``."""
    found: list[dict[str, Any]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        frame = json.loads(client.recv(timeout=max(0.01, end - time.monotonic())))
        found.append(frame)
        if any(event["seq"] >= until_seq for event in frame.get("events", [])):
            return found
    raise AssertionError(f"seq {until_seq} never came")


def seqs(found: list[dict[str, Any]]) -> list[int]:
    """Return the ``seq`` of all events in frames, as they came."""
    return [event["seq"] for frame in found for event in frame.get("events", [])]


def close_code(client: Connection) -> int:
    """Return the code with which the server closes."""
    with suppress(ConnectionClosed):
        while True:
            client.recv(timeout=10)
    assert client.close_code is not None
    return client.close_code
