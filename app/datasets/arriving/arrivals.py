"""From what was sent to a version: a file in the form, an upload in pieces, or a file of this box.

All ways in end in ``service.add_version``. The endpoint and the pages call ``take`` and say what
they want to know of the result. Hashing and copying hold no transaction.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session
from starlette.requests import Request

from app.auth.idempotency import made_before, once
from app.auth.roles import Actor
from app.datasets import service
from app.datasets.arriving import importing, quota, receiving, uploads
from app.datasets.arriving.quota import Allowance
from app.datasets.arriving.receiving import Received
from app.datasets.service import Content, DatasetView
from app.dependencies import OpenSession
from app.kit.storage import get_storage
from app.settings import Settings

T = TypeVar("T")
_OPERATION = "datasets.create"


class Arrival:
    """One request to make a version: who asks, with which settings, and its Idempotency-Key."""

    def __init__(
        self, open_session: OpenSession, actor: Actor, settings: Settings, key: str | None = None
    ) -> None:
        self.open_session, self.actor, self.settings = open_session, actor, settings
        self.storage = get_storage(settings)
        self.key = key

    def allowance(self) -> Allowance | None:
        """Return what the person may still add."""
        with self.open_session() as session:
            return quota.allowance(session, actor=self.actor, settings=self.settings)

    async def take(self, request: Request, answer: Callable[[DatasetView], T]) -> T:
        """Read a multipart form, make the version, and return what ``answer`` makes of it."""
        allowance = await run_in_threadpool(self.allowance)
        received = await receiving.receive(
            request,
            settings=self.settings,
            storage=self.storage,
            fits=allowance.require if allowance else lambda _: None,
        )
        return await receiving.keep_or_delete(
            self.storage, received, lambda: self.store(received, answer)
        )

    def store(self, received: Received, answer: Callable[[DatasetView], T]) -> T:
        """Make the version of what was received, once per Idempotency-Key."""
        fields = {
            name: value for name, value in received.fields.items() if value and name != "csrf_token"
        }
        body = f"{sorted(fields.items())} {received.sha256}"
        with self.open_session() as session:
            known = made_before(
                session, actor=self.actor, key=self.key, operation=_OPERATION, body=body
            )
            if known is not None:
                return answer(service.get(session, dataset_id=known))
        with self._content(received, fields) as content, self.open_session() as session:
            view = once(
                session,
                actor=self.actor,
                key=self.key,
                operation=_OPERATION,
                body=body,
                create=partial(self._add, session, content, fields),
                identify=lambda made: made.dataset.id,
                load=lambda dataset_id: service.get(session, dataset_id=dataset_id),
            )
            return answer(view)

    @contextmanager
    def _content(self, received: Received, fields: dict[str, str]) -> Iterator[Content]:
        """Give the bytes, wherever they are, hashed; what nobody takes is gone afterwards."""
        if received.has_file:
            yield Content(received.key, received.filename, received.size, received.sha256)
        elif "upload" in fields:
            with self.open_session() as session:
                found = uploads.find(
                    session, actor=self.actor, settings=self.settings, upload_id=fields["upload"]
                )
            with uploads.whole(self.settings, found) as content:
                yield content
        else:
            allowance = self.allowance()
            fits = allowance.require if allowance else lambda _: None
            with importing.taken(self.settings, fields["import"], fits=fits) as content:
                yield content

    def _add(self, session: Session, content: Content, fields: dict[str, str]) -> DatasetView:
        if "upload" in fields:  # its bytes count already, and are counted once
            uploads.give_up(
                session, actor=self.actor, settings=self.settings, upload_id=fields["upload"]
            )
        quota.require(session, actor=self.actor, settings=self.settings, size=content.size)
        return service.add_version(
            session,
            actor=self.actor,
            storage=self.storage,
            content=content,
            name=fields.get("name", ""),
            dataset_id=fields.get("dataset"),
            declared_format=fields.get("format"),
        )
