"""Publishing to Redis channels, after the commit. Knows no feature and keeps nothing.

A publication says that something stored in Postgres is new; whoever misses it reads the store.
"""

import json
from functools import lru_cache
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.orm import Session

from app.kit.db import after_commit
from app.settings import get_settings

JOB_PREFIX = "job:"
CONTROL_PREFIX = "control:"


def job_channel(job_id: str) -> str:
    """Return the channel of a job's events, read by the hub."""
    return JOB_PREFIX + job_id


def control_channel(job_id: str) -> str:
    """Return the channel on which a job's supervisor hears that a stop is wished."""
    return CONTROL_PREFIX + job_id


@lru_cache
def client() -> Redis:
    """Return this process's Redis connection pool; a failure shows at once, without retries."""
    url = get_settings().redis_url or "redis://127.0.0.1:6379/0"
    return Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=2)


def publish(session: Session, channel: str, message: dict[str, Any]) -> None:
    """Publish ``message`` as JSON once this transaction is committed."""
    text = json.dumps(message, separators=(",", ":"), allow_nan=False)
    after_commit(session, lambda: client().publish(channel, text))
