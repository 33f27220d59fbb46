"""kill -9 of everything in mid-run: the job ends, whole, and never with two trainers at once."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.embedded.postgres import Postgres
from app.embedded.valkey import Valkey
from app.jobs.state import JobStatus
from app.settings import get_settings
from app.up import migrations
from tests.fixtures.database import _forget
from tests.worker.box import Box, assert_whole, end, kill, shorten, trainers
from tests.worker.conftest import reaping_often

STEPS = 120
pytestmark = pytest.mark.slow


class Servers:
    """A Postgres and a Valkey of this module's own, which may be killed."""

    def __init__(self, folder: Path) -> None:
        self.postgres = Postgres(folder / "p").start()
        self.valkey = Valkey(folder / "v").start()
        self.url = self.postgres.create_database("kills")
        migrations.upgrade(self.url)

    def stop(self) -> None:
        """Stop both."""
        self.valkey.stop()
        self.postgres.stop()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Return servers that may be killed."""
    found = Servers(tmp_path_factory.mktemp("s"))
    yield found
    found.stop()


class Crew(Box):
    """A box with one Celery worker, which is started again where a test has ended it."""

    worker: subprocess.Popen[bytes] | None = None

    def working(self) -> subprocess.Popen[bytes]:
        """Return the running worker, a new one if there is none."""
        if self.worker is None or self.worker.poll() is not None:
            self.worker = self.start_celery()
        return self.worker


@pytest.fixture(scope="module")
def module_box(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Return a box on the servers, reaped often, as a server beside the worker would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", servers.url)
        patch.setenv("REDIS_URL", servers.valkey.url)
        patch.setenv("TUNEBOX_DATA", str(tmp_path_factory.mktemp("data")))
        _forget()
        shorten(patch)
        crew = Crew(get_settings())
        with reaping_often(servers.url):
            yield crew
        if crew.worker is not None:
            end(crew.worker)
    _forget()


@pytest.fixture
def box(module_box: Crew) -> Crew:
    """Return the box with its worker running."""
    module_box.working()
    return module_box


@contextmanager
def watching(job_id: str) -> Iterator[list[int]]:
    """Count the job's trainers all the time; the block fails if there were ever two."""
    ended, most = threading.Event(), [0]

    def look() -> None:
        while not ended.is_set():
            most[0] = max(most[0], len(trainers(job_id)))
            time.sleep(0.15)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()
    assert most[0] == 1


def child_of(pid: int) -> int:
    """Return the process that a Celery parent forked to work."""
    return next(
        one.pid
        for one in psutil.Process(pid).children()
        if "celery" in " ".join(one.cmdline()).lower() and one.status() != psutil.STATUS_ZOMBIE
    )


def _submit(box: Crew, steps: int = STEPS) -> str:
    return box.submit(steps=steps, step_seconds=0.02)


def test_a_killed_trainer(box: Crew) -> None:
    job_id = _submit(box)
    with watching(job_id):
        box.wait_for_step(job_id, 30)
        kill(trainers(job_id)[0])
        assert box.wait(job_id, JobStatus.SUCCEEDED).attempt == 2
    assert_whole(box, job_id, STEPS)


def test_a_killed_worker_child(box: Crew) -> None:
    job_id = _submit(box)
    with watching(job_id):
        box.wait_for_step(job_id, 30)
        kill(child_of(box.working().pid))
        assert box.wait(job_id, JobStatus.SUCCEEDED).attempt == 2
    assert_whole(box, job_id, STEPS)


def test_a_killed_worker_parent_and_a_new_worker(box: Crew) -> None:
    job_id = _submit(box)
    with watching(job_id):
        box.wait_for_step(job_id, 30)
        worker = box.working()
        kill(worker.pid)
        worker.wait()
        box.working()
        assert box.wait(job_id, JobStatus.SUCCEEDED).attempt == 2
    assert_whole(box, job_id, STEPS)


def test_a_worker_that_is_asked_to_end_saves_and_hands_its_job_back_at_once(box: Crew) -> None:
    job_id = _submit(box)
    box.wait_for_step(job_id, 30)
    worker = box.working()
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait(20)
    job = box.job(job_id)
    assert (job.status, job.lost_count) == (JobStatus.QUEUED, 0)
    assert trainers(job_id) == []
    box.working()
    assert box.wait(job_id, JobStatus.SUCCEEDED).attempt == 2
    assert_whole(box, job_id, STEPS)


def test_a_killed_valkey(box: Crew, servers: Servers) -> None:
    job_id = _submit(box)
    box.wait_for_step(job_id, 30)
    pid = servers.valkey.pid()
    assert pid
    kill(pid)
    servers.valkey.start()
    assert box.wait(job_id, JobStatus.SUCCEEDED).attempt == 1
    assert_whole(box, job_id, STEPS)
    second = _submit(box, steps=5)
    box.wait(second, JobStatus.SUCCEEDED)


def test_a_killed_postgres_that_is_back_soon(box: Crew, servers: Servers) -> None:
    job_id = _submit(box)
    with watching(job_id):
        box.wait_for_step(job_id, 30)
        _kill_postgres(servers)
        servers.postgres.start()
        box.wait(job_id, JobStatus.SUCCEEDED)
    assert_whole(box, job_id, STEPS)


def test_a_postgres_that_is_away_for_longer_than_the_lease(box: Crew, servers: Servers) -> None:
    job_id = _submit(box, steps=300)
    with watching(job_id):
        box.wait_for_step(job_id, 30)
        _kill_postgres(servers)
        box.until(lambda: not trainers(job_id), "the trainer to be stopped")
        servers.postgres.start()
        assert box.wait(job_id, JobStatus.SUCCEEDED).attempt == 2
    assert_whole(box, job_id, 300)


def _kill_postgres(servers: Servers) -> None:
    pid = servers.postgres.pid()
    assert pid
    kill(pid)
    end = time.monotonic() + 5
    while servers.postgres.answers() and time.monotonic() < end:
        time.sleep(0.02)
