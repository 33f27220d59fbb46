"""One socket's view of a job: what is stored after its ``seq``, then what comes, without a gap.

Live batches are sent only if they follow what was sent; anything else is read from the store,
whose numbers have no holes. Knows neither who listens nor what events mean, but that metrics of a
slow client can be thinned.
"""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import WebSocket
from fastapi.concurrency import run_in_threadpool

from app.dependencies import OpenSession
from app.errors import NotFound
from app.jobs import service
from app.jobs.events import EventType, JobEvent
from app.streaming.hub import Batch, Hub, Note, Subscription

PING_SECONDS = 20.0
RECHECK_SECONDS = 60.0
_PAGE = 2000
_WAIT = 1.0  # and how often the store is read while Redis is away


class JobStream:
    """Sends one job's events to one socket."""

    def __init__(
        self, websocket: WebSocket, hub: Hub, open_session: OpenSession, *, job_id: str, after: int
    ) -> None:
        self._websocket, self._hub, self._open_session = websocket, hub, open_session
        self._job_id, self._last = job_id, after

    async def run(
        self, subscription: Subscription, *, still_allowed: Callable[[], Awaitable[bool]]
    ) -> None:
        """Send the snapshot, then follow until the session ends. The caller watches the client."""
        await self._send_stored("snapshot")
        pinged = checked = time.monotonic()
        while True:
            await self._take(await subscription.next(_WAIT))
            now = time.monotonic()
            if now - pinged > PING_SECONDS:
                pinged = now
                await self._send({"type": "ping"})
            if now - checked > RECHECK_SECONDS:
                checked = now
                if not await still_allowed():
                    return

    async def _take(self, item: Batch | Note | None) -> None:
        if isinstance(item, Batch):
            await self._take_batch(item)
        elif item is Note.OVERFLOW:
            await self._resync()
        elif item is Note.STALE or not self._hub.connected:
            await self._send_stored("events")

    async def _take_batch(self, batch: Batch) -> None:
        if batch.last <= self._last:
            return
        if batch.first == self._last + 1:
            self._last = batch.last
            await self._websocket.send_text(batch.frame)
        else:
            await self._send_stored("events")

    async def _send_stored(self, kind: str) -> None:
        """Send all stored events after the last one sent; a snapshot is sent even if empty."""
        while True:
            events = await self._stored()
            if not events and kind != "snapshot":
                return
            await self._send_events(kind, events)
            if len(events) < _PAGE:
                return
            kind = "events"

    async def _resync(self) -> None:
        """Tell a slow client to fetch its curves anew; send the rest with thinned metrics."""
        await self._send({"type": "resync"})
        while events := await self._stored():
            await self._send_events("events", thinned(events))
            self._last = events[-1].seq
            if len(events) < _PAGE:
                return

    async def _stored(self) -> list[JobEvent]:
        return await run_in_threadpool(self._read)

    def _read(self) -> list[JobEvent]:
        with self._open_session() as session:
            return service.events_after(session, job_id=self._job_id, after=self._last, limit=_PAGE)

    async def _send_events(self, kind: str, events: list[JobEvent]) -> None:
        if events:
            self._last = events[-1].seq
        await self._send(
            {"type": kind, "events": [event.model_dump(mode="json") for event in events]}
        )

    async def _send(self, frame: dict[str, Any]) -> None:
        await self._websocket.send_text(json.dumps(frame, separators=(",", ":")))


def thinned(events: list[JobEvent]) -> list[JobEvent]:
    """Return all events but metrics, and of the metrics the last with each set of names."""
    last = {
        frozenset(event.values): event.seq for event in events if event.type is EventType.METRICS
    }
    kept = set(last.values())
    return [event for event in events if event.type is not EventType.METRICS or event.seq in kept]


def job_exists(open_session: OpenSession, job_id: str) -> bool:
    """Tell whether there is such a job."""
    with open_session() as session:
        try:
            service.get(session, job_id)
        except NotFound:
            return False
        return True
