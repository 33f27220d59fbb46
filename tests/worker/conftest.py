"""Fixtures of worker tests: a box on a database of its own, with short leases."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from app.jobs.reaper import reap
from app.kit.db import AWAY, transaction
from app.queue import Lane
from app.settings import Settings, get_settings
from tests.worker.box import Box, shorten
from worker import supervisor


@pytest.fixture
def box(committed_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Return a box with one free device and no worker."""
    shorten(monkeypatch)
    del committed_settings
    return Box(get_settings())


Serving = Callable[[], threading.Thread]


@pytest.fixture
def serving(box: Box) -> Iterator[Serving]:
    """Return what serves the devices' lane once, in a thread of this process."""
    threads: list[threading.Thread] = []

    def start() -> threading.Thread:
        thread = threading.Thread(target=supervisor.serve, args=(Lane.DEVICES,))
        thread.start()
        threads.append(thread)
        return thread

    with reaping_often(box.url):
        yield start
        for thread in threads:
            thread.join(timeout=30)


@contextmanager
def reaping_often(url: str) -> Iterator[None]:
    """Reap five times a second while the block lasts."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                with transaction(url) as session:
                    reap(session)
            except AWAY:
                pass
            time.sleep(0.2)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
