"""Step to handler: from the moment a trainer writes an event to its receipt by 50 open sockets.

A real server, a real worker's recorder and shepherd, a simulated run of real-time steps; each
socket's receiver notes when its handler gets the frame. Clocks are one machine's. Its peer is the
issue's bar: p50 ≤ 100 ms, p99 ≤ 300 ms.
"""

import asyncio
import json
import statistics
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from websockets.asyncio.client import connect

from app.kit.db import transaction
from app.queue import Lane
from app.settings import get_settings
from tests.benchmarks.servers import servers
from tests.fixtures.builders import create_user
from tests.streaming.server import Server, cookie_of
from tests.worker.box import Box
from worker import supervisor

SOCKETS, STEPS, STEP_SECONDS = 50, 200, 0.1


def main() -> None:
    """Run it and print the figures in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="tb-") as name, servers(Path(name)) as url:
        box, server = Box(get_settings()), Server(Path(name)).start()
        try:
            with transaction(url) as session:
                cookie = cookie_of(session, create_user(session))
            job_id = box.submit(steps=STEPS, step_seconds=STEP_SECONDS)
            worker = threading.Thread(target=supervisor.serve, args=(Lane.DEVICES,))
            threading.Timer(2.0, worker.start).start()
            delays = asyncio.run(_listen(server, job_id, cookie))
            worker.join()
        finally:
            server.kill()
    _print(delays)


async def _listen(server: Server, job_id: str, cookie: str) -> list[float]:
    """Return the delays of all metric events at all sockets, in milliseconds."""
    found = await asyncio.gather(*(_receive(server, job_id, cookie) for _ in range(SOCKETS)))
    return [delay for one in found for delay in one]


async def _receive(server: Server, job_id: str, cookie: str) -> list[float]:
    address = f"ws://127.0.0.1:{server.port}/ws/jobs/{job_id}"
    headers = {"Cookie": cookie, "Origin": server.origin}
    delays: list[float] = []
    async with connect(address, additional_headers=headers, max_size=2**24) as client:
        async for text in client:
            now = time.time()
            for event in json.loads(text).get("events", []):
                if event["type"] == "metrics":
                    delays.append(1000 * (now - datetime.fromisoformat(event["at"]).timestamp()))
                if event["values"].get("status") in ("succeeded", "failed"):
                    return delays
    return delays


def _print(delays: list[float]) -> None:
    cuts = statistics.quantiles(delays, n=100)
    print(
        f"{SOCKETS} sockets, {len(delays):,} events received: "
        f"p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms, most {max(delays):.0f} ms "
        "(bar: p50 100 ms, p99 300 ms)"
    )
