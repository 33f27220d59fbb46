"""One Redis subscription per server process, fanned out to the sockets that listen here.

Queues are bounded: a socket that does not keep up loses what waits and is told so. After Redis was
away every socket is told to read the store. Knows channels and batches; no job, no user, no
database.
"""

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog
from fastapi import FastAPI
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.bus import JOB_PREFIX
from app.settings import Settings

log = structlog.get_logger(__name__)

JOBS_CHANNEL = "jobs"
_CAPACITY = 256  # messages that wait for one socket
_RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Batch:
    """A published message: the ``seq`` of its first and last event, and the frame to send."""

    first: int
    last: int
    frame: str


class Note(Enum):
    """What a socket must know beside batches."""

    STALE = "stale"  # something may have been missed: read the store
    OVERFLOW = "overflow"  # too slow: what waited was dropped


class Subscription:
    """What waits for one socket."""

    def __init__(self) -> None:
        self._waiting: deque[Batch | Note] = deque()
        self._woken = asyncio.Event()

    def put(self, item: Batch | Note) -> None:
        """Add an item; when too many wait, all are replaced by one note."""
        if len(self._waiting) >= _CAPACITY:
            self._waiting.clear()
            item = Note.OVERFLOW
        self._waiting.append(item)
        self._woken.set()

    async def next(self, timeout: float) -> Batch | Note | None:  # noqa: ASYNC109  # no cancelling
        """Return the next item, or None after ``timeout`` seconds without one."""
        if not self._waiting:
            self._woken.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), timeout)
        return self._waiting.popleft() if self._waiting else None


class Hub:
    """Listens to all jobs' channels and hands each message to who asked for its channel."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._subscriptions: dict[str, set[Subscription]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self.connected = False

    async def start(self) -> None:
        """Begin to listen; waits a moment for the first connection, not for ever."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen(), name="hub")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), 1.0)

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @contextmanager
    def subscribe(self, channel: str) -> Iterator[Subscription]:
        """Collect the messages of ``channel`` while the block lasts."""
        subscription = Subscription()
        self._subscriptions[channel].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[channel].discard(subscription)
            if not self._subscriptions[channel]:
                del self._subscriptions[channel]

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                async with Redis.from_url(self._url) as redis, redis.pubsub() as ears:
                    await ears.psubscribe(JOB_PREFIX + "*")
                    await ears.subscribe(JOBS_CHANNEL)
                    failures = 0
                    self._welcome()
                    async for message in ears.listen():
                        self._dispatch(message)
            except (RedisError, OSError) as error:
                if self.connected:
                    log.warning("hub_lost_redis", error=repr(error)[:200])
            self.connected = False
            await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
            failures += 1

    def _welcome(self) -> None:
        self.connected = True
        self._first.set()
        for subscription in [one for group in self._subscriptions.values() for one in group]:
            subscription.put(Note.STALE)

    def _dispatch(self, message: dict[str, Any]) -> None:
        if message["type"] not in ("message", "pmessage"):
            return
        listeners = self._subscriptions.get(message["channel"].decode())
        if not listeners:
            return
        batch = _batch(message["data"])
        for subscription in list(listeners):
            subscription.put(batch)


def _batch(data: bytes) -> Batch:
    content = json.loads(data)
    events = content.get("events")
    if not events:
        return Batch(0, 0, _text({"type": "job", **content}))
    return Batch(events[0]["seq"], events[-1]["seq"], _text({"type": "events", "events": events}))


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


async def hub_of(app: FastAPI, settings: Settings) -> Hub:
    """Return this process's hub, started."""
    hub: Hub | None = getattr(app.state, "hub", None)
    if hub is None:
        hub = app.state.hub = Hub(settings.redis_url or "redis://127.0.0.1:6379/0")
    await hub.start()
    return hub


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[None]:
    """Close the hub, if a socket started one, when the block ends."""
    try:
        yield
    finally:
        hub: Hub | None = getattr(app.state, "hub", None)
        if hub is not None:
            await hub.close()
            app.state.hub = None
