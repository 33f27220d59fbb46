"""Sessions, transactions and the declarative base. Knows no feature.

One request or task is one transaction. Services flush and never commit; the edge that opened the
session commits. What must happen only after a commit (a message to the broker, a publication)
is queued with ``after_commit`` and dropped on rollback.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

import structlog
from sqlalchemy import DateTime, MetaData, Text, create_engine, event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

log = structlog.get_logger(__name__)

_PENDING = "after_commit"

# What SQLAlchemy raises while Postgres is away or restarting; to try again makes sense.
AWAY = (OperationalError, InterfaceError, PoolTimeout)


class Base(DeclarativeBase):
    """Base of all tables: text ids, UTC times, JSONB documents, named constraints."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
    }


@lru_cache
def get_engine(url: str) -> Engine:
    """Return this process's engine for ``url`` (``postgresql+psycopg://…``)."""
    return create_engine(normalised(url), pool_pre_ping=True, pool_size=10, max_overflow=20)


def normalised(url: str) -> str:
    """Return ``url`` with the psycopg 3 driver, whichever way a user spelt it."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


@lru_cache
def session_factory(url: str) -> sessionmaker[Session]:
    """Return the maker of sessions on ``url``; objects stay readable after a commit."""
    return sessionmaker(get_engine(url), expire_on_commit=False)


@contextmanager
def transaction(url: str) -> Iterator[Session]:
    """Open a session, commit when the block ends well, roll back when it raises."""
    with session_factory(url)() as session, session.begin():
        yield session


def after_commit(session: Session, action: Callable[[], object]) -> None:
    """Do ``action`` once this session's transaction is committed, never when it is rolled back.

    A failing action is logged and not raised: the truth is already in Postgres, and the reaper
    rings again for what was not rung.
    """
    session.info.setdefault(_PENDING, []).append(action)


@event.listens_for(Session, "after_commit")
def _run_pending(session: Session) -> None:
    if session.in_nested_transaction():
        return
    for action in session.info.pop(_PENDING, []):
        try:
            action()
        except Exception as error:  # noqa: BLE001  # Redis may be down; see after_commit
            log.warning("after_commit_failed", error=repr(error))


@event.listens_for(Session, "after_soft_rollback")
def _drop_pending(session: Session, previous: object) -> None:
    del previous
    if not session.in_nested_transaction():
        session.info.pop(_PENDING, None)
