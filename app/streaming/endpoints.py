"""Sockets: one job's events, and the state changes of all jobs. A socket never touches a job.

Refusals are told by close codes after the handshake, since a browser cannot read a refused one's
status. Holds no database session while it waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from fastapi.concurrency import run_in_threadpool

from app.auth import csrf
from app.bus import job_channel
from app.dependencies import OpenSessionDep, SettingsDep, SocketActor, bearer, socket_actor
from app.errors import Forbidden
from app.settings import Settings
from app.streaming.hub import JOBS_CHANNEL, Batch, Subscription, hub_of
from app.streaming.stream import PING_SECONDS, RECHECK_SECONDS, JobStream, job_exists

router = APIRouter()

NOT_SIGNED_IN = 4401
NOT_ALLOWED = 4403
NO_SUCH_JOB = 4404


@router.websocket("/ws/jobs/{job_id}")
async def follow_job(
    websocket: WebSocket,
    job_id: str,
    actor: SocketActor,
    open_session: OpenSessionDep,
    settings: SettingsDep,
    after: Annotated[int, Query(ge=0)] = 0,
) -> None:
    """Send the job's stored events after ``after``, then each new one."""
    await websocket.accept()
    if actor is None:
        await websocket.close(_refusal(websocket, settings))
        return
    if not await run_in_threadpool(job_exists, open_session, job_id):
        await websocket.close(NO_SUCH_JOB)
        return
    hub = await hub_of(websocket.app, settings)
    stream = JobStream(websocket, hub, open_session, job_id=job_id, after=after)

    async def still_allowed() -> bool:
        return await socket_actor(websocket, open_session, settings) is not None

    with hub.subscribe(job_channel(job_id)) as subscription:
        await _while_open(websocket, stream.run(subscription, still_allowed=still_allowed))


@router.websocket("/ws/jobs")
async def follow_queue(
    websocket: WebSocket,
    actor: SocketActor,
    open_session: OpenSessionDep,
    settings: SettingsDep,
) -> None:
    """Send one frame per state change of any job."""
    await websocket.accept()
    if actor is None:
        await websocket.close(_refusal(websocket, settings))
        return
    hub = await hub_of(websocket.app, settings)

    async def still_allowed() -> bool:
        return await socket_actor(websocket, open_session, settings) is not None

    with hub.subscribe(JOBS_CHANNEL) as subscription:
        await _while_open(websocket, _send_states(websocket, subscription, still_allowed))


async def _send_states(
    websocket: WebSocket, subscription: Subscription, still_allowed: Callable[[], Awaitable[bool]]
) -> None:
    """Pass state changes on; whoever missed some is told to reload its list."""
    loop = asyncio.get_running_loop()
    checked = loop.time()
    while True:
        item = await subscription.next(PING_SECONDS)
        if isinstance(item, Batch):
            await websocket.send_text(item.frame)
        else:
            await websocket.send_json({"type": "ping" if item is None else "resync"})
        if loop.time() - checked > RECHECK_SECONDS:
            checked = loop.time()
            if not await still_allowed():
                return


def _refusal(websocket: WebSocket, settings: Settings) -> int:
    """Return the close code: another site's page is not allowed, everybody else must sign in."""
    if bearer(websocket) is None:
        try:
            csrf.check_origin(websocket.headers, settings=settings)
        except Forbidden:
            return NOT_ALLOWED
    return NOT_SIGNED_IN


async def _while_open(websocket: WebSocket, sending: Coroutine[Any, Any, None]) -> None:
    """Run ``sending`` until the client leaves; what a client says is ignored.

    When ``sending`` ends by itself, the session is over.
    """
    sender = asyncio.create_task(sending)
    listener = asyncio.create_task(_until_left(websocket))
    try:
        await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sender, listener):
            task.cancel()
        ended = await asyncio.gather(sender, listener, return_exceptions=True)
    error = ended[0]
    if error is None:
        with suppress(RuntimeError):
            await websocket.close(NOT_SIGNED_IN)
    elif isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
        with suppress(RuntimeError):
            await websocket.close(1011)
        raise error


async def _until_left(websocket: WebSocket) -> None:
    with suppress(WebSocketDisconnect):
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
