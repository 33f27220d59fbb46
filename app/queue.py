"""The bell: Celery messages that say "there may be work". Postgres alone knows which work.

Knows no feature and no worker code. A message carries nothing but the lane; losing one loses
nothing, since the reaper rings again for queued jobs.
"""

from enum import StrEnum
from functools import lru_cache

from celery import Celery
from kombu.utils.url import maybe_sanitize_url
from sqlalchemy.orm import Session

from app.kit.db import after_commit
from app.settings import get_settings


class Lane(StrEnum):
    """Which workers hear the bell: those with a device, or those for light work."""

    DEVICES = "devices"
    LIGHT = "light"


class TaskName(StrEnum):
    """Every Celery task by name; a contract test checks that the worker registers each."""

    SERVE = "tunebox.serve"


def broker_url(redis_url: str) -> str:
    """Return Celery's spelling of a Redis URL (``unix:///s?db=0`` is ``redis+socket`` there)."""
    if not redis_url.startswith("unix://"):
        return redis_url
    path, _, query = redis_url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}?virtual_host={query.removeprefix('db=') or 0}"


@lru_cache
def celery_app() -> Celery:
    """Return this process's Celery application, configured as DESIGN measured it.

    Early acknowledgement plus a claim in Postgres: with late acknowledgement Redis would deliver
    an hours-long job again while it still runs.
    """
    app = Celery(
        "tunebox", broker=broker_url(get_settings().redis_url or "redis://127.0.0.1:6379/0")
    )
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": 3600},
        enable_utc=True,
        task_acks_late=False,
        task_default_queue=Lane.LIGHT,
        task_ignore_result=True,
        task_serializer="json",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )
    return app


def send(lane: Lane) -> None:
    """Ring now. Raises Celery's or Redis's error when the broker is away."""
    celery_app().send_task(
        TaskName.SERVE, kwargs={"lane": lane.value}, queue=lane.value, retry=False
    )


def ring(session: Session, lane: Lane) -> None:
    """Ring once this transaction is committed."""
    after_commit(session, lambda: send(lane))


def safe_broker_name() -> str:
    """Return the broker's address without its password, for logs and health."""
    return str(maybe_sanitize_url(str(celery_app().conf.broker_url)))
