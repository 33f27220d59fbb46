"""Celery's entry: ``celery -A worker.main worker -Q devices -c 1``. Registers, announces, reaps.

SIGTERM is Celery's warm shutdown: the parent tells the task through ``worker.ending``, the task
saves and lets its job go, and the worker ends as soon as it has. Knows no kind of job.
"""

import threading
from contextlib import ExitStack
from typing import Any

import structlog
from celery import signals

from app import bus, logging
from app.devices import service as devices
from app.devices.inventory import find_devices
from app.jobs.reaper import reaping
from app.kit.db import get_engine, transaction
from app.queue import Lane, celery_app
from app.settings import get_settings
from worker import ending, supervisor, tasks

log = structlog.get_logger(__name__)

ANNOUNCE_SECONDS = 10.0

app = celery_app()
app.conf.update(worker_send_task_events=False, worker_proc_alive_timeout=60.0)
tasks.register(app)

_beside = ExitStack()
_ended = threading.Event()


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    logging.configure()


@signals.worker_init.connect
def _before_fork(**_: Any) -> None:
    ending.prepare()


@signals.worker_process_init.connect
def _in_child(**_: Any) -> None:
    """Take nothing of the parent's connections along."""
    ending.enter_child()
    get_engine(supervisor.database_url(get_settings())).dispose(close=False)
    bus.client.cache_clear()


@signals.worker_ready.connect
def _ready(sender: Any, **_: Any) -> None:
    url = supervisor.database_url(get_settings())
    if Lane.DEVICES in sender.app.amqp.queues.consume_from:
        announce(url)
        threading.Thread(target=_keep_announcing, args=(url,), name="devices", daemon=True).start()
    _beside.enter_context(reaping(url))


@signals.worker_shutting_down.connect
def _shutting_down(**_: Any) -> None:
    ending.announce()
    _ended.set()


@signals.worker_shutdown.connect
def _shut_down(**_: Any) -> None:
    _beside.close()


def announce(url: str) -> None:
    """Tell what devices this box has and what they do; a failure is logged and tried again."""
    try:
        with transaction(url) as session:
            devices.announce(session, host=supervisor.host_name(), found=find_devices())
    except Exception as error:  # noqa: BLE001  # Postgres may be away
        log.warning("announcing_failed", error=repr(error)[:200])


def _keep_announcing(url: str) -> None:
    while not _ended.wait(ANNOUNCE_SECONDS):
        announce(url)
