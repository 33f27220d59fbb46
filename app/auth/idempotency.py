"""``Idempotency-Key``: a request sent twice makes one thing. Knows no feature and no HTTP.

Two requests with one key wait for each other, so the second finds what the first made.
"""

import hashlib
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.auth.models import IdempotencyKey
from app.auth.roles import Actor
from app.errors import Conflict

T = TypeVar("T")


def once(
    session: Session,
    *,
    actor: Actor,
    key: str | None,
    operation: str,
    body: BaseModel | str,
    create: Callable[[], T],
    identify: Callable[[T], str],
    load: Callable[[str], T],
) -> T:
    """Return what ``create`` makes, or for a repeated key what it made the first time.

    ``operation`` names the call, ``identify`` tells the id of what was made, ``load`` finds it
    again. Without a key it just creates. The same key with another body is a ``Conflict``.
    """
    if key is None:
        return create()
    lock = f"{actor.id}:{key}"
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": lock}
    )
    known = made_before(session, actor=actor, key=key, operation=operation, body=body)
    if known is not None:
        return load(known)
    made = create()
    session.add(
        IdempotencyKey(
            user_id=actor.id,
            key=key,
            operation=operation,
            body_hash=_digest(body),
            resource_id=identify(made),
        )
    )
    session.flush()
    return made


def made_before(
    session: Session, *, actor: Actor, key: str | None, operation: str, body: BaseModel | str
) -> str | None:
    """Return the id of what a repeated key made the first time, or None for a new one.

    For work that is worth sparing before ``once``. Raises ``Conflict`` as it does.
    """
    known = session.get(IdempotencyKey, (actor.id, key)) if key else None
    if known is None:
        return None
    if (known.operation, known.body_hash) != (operation, _digest(body)):
        raise Conflict(
            "This Idempotency-Key was used with another request. Use a new key.",
            code="idempotency_key_reused",
        )
    return known.resource_id


def _digest(body: BaseModel | str) -> str:
    content = body if isinstance(body, str) else body.model_dump_json()
    return hashlib.sha256(content.encode()).hexdigest()
