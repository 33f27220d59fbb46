"""One thread that keeps a job ours: extends its lease and hears that a stop is wished.

Postgres may go away for a while: the beat is tried again until the lease is over. Knows nothing of
trainers; the supervisor asks it how things stand.
"""

import threading
import time
from types import TracebackType
from typing import Any, Self

import structlog
from redis.exceptions import RedisError

from app import bus
from app.jobs import leasing
from app.jobs.state import StopMode
from app.kit.db import AWAY, transaction
from worker.ending import worker_is_ending

log = structlog.get_logger(__name__)

_BEATS_PER_LEASE = 6
_LISTEN = 0.1


class Watch:
    """How a claimed job stands: ours or not, to be stopped or not."""

    def __init__(self, url: str, claim: leasing.Claim, lease_seconds: float) -> None:
        self._url, self._claim, self._lease = url, claim, lease_seconds
        self._every = lease_seconds / _BEATS_PER_LEASE
        self._last_beat = self._next_beat = time.monotonic()
        self._ended = threading.Event()
        self._ears: Any = None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._let_go: str | None = None
        self.stop_mode: StopMode | None = None
        self.fenced = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._close_ears()

    @property
    def let_go(self) -> str | None:
        """Why this worker has to give the job up, if it has to; once said, it stays so."""
        if self._let_go is None and worker_is_ending():
            self._let_go = "The worker was shut down"
        if self._let_go is None and time.monotonic() - self._last_beat > self._lease:
            self._let_go = "Postgres was away for longer than the lease"
        return self._let_go

    @property
    def must_stop(self) -> bool:
        """Tell whether work on the job is to end, for whatever reason."""
        return self.stop_mode is not None or self.fenced or self.let_go is not None

    def _run(self) -> None:
        while not self._ended.is_set() and not self.fenced:
            if time.monotonic() >= self._next_beat:
                self._beat()
            if self._hear():
                self._next_beat = 0.0  # what is wished stands in Postgres

    def _beat(self) -> None:
        started = time.monotonic()
        self._next_beat = started + self._every
        try:
            with transaction(self._url) as session:
                self.stop_mode = leasing.heartbeat(
                    session,
                    job_id=self._claim.job_id,
                    attempt=self._claim.attempt,
                    lease_seconds=self._lease,
                )
            self._last_beat = started
        except leasing.Fenced:
            self.fenced = True
        except AWAY as error:
            log.warning("heartbeat_failed", job=self._claim.job_id, error=repr(error)[:200])
            self._next_beat = time.monotonic() + min(self._every, 1.0)

    def _hear(self) -> bool:
        """Listen for a moment; tell whether somebody called. Without Redis it only waits."""
        try:
            if self._ears is None:
                self._ears = bus.client().pubsub(ignore_subscribe_messages=True)
                self._ears.subscribe(bus.control_channel(self._claim.job_id))
            return self._ears.get_message(timeout=_LISTEN) is not None
        except (RedisError, OSError):
            self._close_ears()
            self._ended.wait(_LISTEN)
            return False

    def _close_ears(self) -> None:
        if self._ears is not None:
            self._ears.close()
            self._ears = None
