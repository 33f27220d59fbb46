"""The live stream: whole, in order, without a gap, for those who may see it."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from websockets.sync.connection import Connection

from app import bus
from app.auth.roles import Role
from app.embedded.postgres import Postgres
from app.jobs import service as jobs
from app.jobs.state import StopMode
from app.kit.db import get_engine, transaction
from app.streaming.hub import Batch, Note, Subscription
from app.streaming.stream import thinned
from tests.fixtures.builders import create_run, create_user
from tests.fixtures.database import _forget
from tests.streaming.server import Server, append, close_code, cookie_of, frames, seqs


@dataclass
class Live:
    """A running server, its database and a signed-in viewer's cookie."""

    server: Server
    url: str
    cookie: str

    def job(self) -> str:
        """Queue a run that nobody works on; its first event is its state."""
        with transaction(self.url) as session:
            return create_run(session).job_id

    def open(self, job_id: str, after: int = 0) -> Connection:
        """Open a job's socket as a browser on our own page does."""
        path = f"/ws/jobs/{job_id}?after={after}"
        return self.server.open(path, Cookie=self.cookie, Origin=self.server.origin)


@pytest.fixture(scope="module")
def live(
    postgres: Postgres,
    template_database: str,
    valkey_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Live]:
    """Return a server on a database of this module's own."""
    name = f"live_{uuid.uuid4().hex[:12]}"
    url = postgres.create_database(name, template=template_database)
    folder = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        patch.setenv("REDIS_URL", valkey_url)
        patch.setenv("TUNEBOX_DATA", str(folder))
        _forget()
        with transaction(url) as session:
            cookie = cookie_of(session, create_user(session, role=Role.VIEWER))
        server = Server(folder).start()
        yield Live(server, url, cookie)
        server.kill()
    get_engine(url).dispose()
    _forget()


def test_a_socket_gets_what_is_stored_then_what_comes(live: Live) -> None:
    job_id = live.job()
    append(live.url, job_id, 0, 25)
    with live.open(job_id) as client:
        first = json.loads(client.recv(timeout=10))
        assert (first["type"], seqs([first])) == ("snapshot", list(range(1, 26)))
        append(live.url, job_id, 25, 40)
        later = frames(client, until_seq=65)
    assert seqs(later) == list(range(26, 66))
    assert {frame["type"] for frame in later} == {"events"}


def test_a_second_tab_that_comes_later_sees_the_same(live: Live) -> None:
    job_id = live.job()
    append(live.url, job_id, 0, 10)
    with live.open(job_id) as one, live.open(job_id, after=4) as two:
        append(live.url, job_id, 10, 10)
        assert seqs(frames(one, until_seq=20)) == list(range(1, 21))
        assert seqs(frames(two, until_seq=20)) == list(range(5, 21))


def test_a_restarted_server_leaves_no_gap(live: Live) -> None:
    job_id = live.job()
    append(live.url, job_id, 0, 10)
    with live.open(job_id) as client:
        last = seqs(frames(client, until_seq=10))[-1]
        live.server.kill()
    append(live.url, job_id, 10, 10)
    live.server.start()
    with live.open(job_id, after=last) as client:
        append(live.url, job_id, 20, 10)
        assert seqs(frames(client, until_seq=30)) == list(range(11, 31))


def test_a_lost_redis_connection_leaves_no_gap(live: Live) -> None:
    job_id = live.job()
    with live.open(job_id) as client:
        client.recv(timeout=10)
        append(live.url, job_id, 0, 10)
        bus.client().client_kill_filter(_type="pubsub")
        append(live.url, job_id, 10, 20)
        assert seqs(frames(client, until_seq=30)) == list(range(1, 31))


def test_publications_that_overtake_each_other_arrive_in_order(live: Live) -> None:
    job_id = live.job()
    append(live.url, job_id, 0, 5)
    with live.open(job_id) as client:
        client.recv(timeout=10)
        with transaction(live.url) as session:
            bus.publish(session, bus.job_channel(job_id), {"events": [{"seq": 9}]})
        append(live.url, job_id, 5, 10)
        assert seqs(frames(client, until_seq=15)) == list(range(6, 16))


def test_states_of_all_jobs_reach_the_queue_page(live: Live) -> None:
    job_id = live.job()
    with live.server.open("/ws/jobs", Cookie=live.cookie, Origin=live.server.origin) as client:
        with transaction(live.url) as session:
            jobs.request_stop(session, job_id=job_id, mode=StopMode.CANCEL)
        frame = json.loads(client.recv(timeout=10))
    assert frame == {"type": "job", "job": job_id, "status": "cancelled"}


def test_refusals_have_their_codes(live: Live) -> None:
    job_id, origin = live.job(), live.server.origin
    path = f"/ws/jobs/{job_id}"
    with live.server.open(path, Origin=origin) as client:
        assert close_code(client) == 4401
    with live.server.open(path, Authorization="Bearer tb_wrong") as client:
        assert close_code(client) == 4401
    with live.server.open(path, Cookie=live.cookie, Origin="http://evil.example") as client:
        assert close_code(client) == 4403
    with live.open("job_unknown") as client:
        assert close_code(client) == 4404


def test_a_socket_that_does_not_keep_up_is_told_so_once() -> None:
    async def fill() -> list[Batch | Note | None]:
        subscription = Subscription()
        for seq in range(1, 1000):
            subscription.put(Batch(seq, seq, "{}"))
        return [await subscription.next(0.01) for _ in range(400)]

    items = asyncio.run(fill())
    assert items.count(Note.OVERFLOW) == 1
    assert Note.OVERFLOW is items[0]


def test_a_slow_client_gets_the_last_of_each_metric_and_all_else(live: Live) -> None:
    job_id = live.job()
    with transaction(live.url) as session:
        jobs.request_stop(session, job_id=job_id, mode=StopMode.PAUSE)
    append(live.url, job_id, 0, 30)
    with transaction(live.url) as session:
        jobs.resume(session, job_id)
        events = jobs.events_after(session, job_id=job_id)
    kept = thinned(events)
    assert [(event.type, event.step) for event in kept] == [
        ("state", None),
        ("metrics", 29),
        ("state", None),
    ]
