"""Celery's tasks, one thin function per name. Knows nothing but whom to call."""

from celery import Celery

from app.queue import Lane, TaskName
from worker import supervisor


def register(app: Celery) -> None:
    """Register every task of ``TaskName``."""
    app.task(name=TaskName.SERVE)(serve)


def serve(*, lane: str) -> None:
    """Answer the bell: there may be work in this lane."""
    supervisor.serve(Lane(lane))
