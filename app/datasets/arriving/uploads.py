"""Uploads in pieces: begun, found by their owner, finished, given up, and swept after a day.

The rules behind the tus 1.0 server of ``endpoints_uploads``; the bytes are ``parts``. We speak tus
ourselves, in some hundred lines. Of the libraries only tuspyserver (4.4.3) is kept up, and it reads
and stores a PATCH before it asks who sends it, keeps the offset beside the file (a killed server
then appends to the wrong place), or, with its storages, holds a whole piece in memory; it waits for
locks and writes on the event loop, never calls fsync in the default mode, and knows no owner.

Parts lie in the storage, or on this machine where the storage is elsewhere: object stores cannot
append. Knows no HTTP.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.roles import Actor
from app.datasets.arriving import parts, quota
from app.datasets.arriving.copying import PLACE, hashed, require_size
from app.datasets.models import Upload
from app.datasets.service import Content
from app.errors import Conflict, NotFound, TooLarge
from app.kit.clock import utc_now
from app.kit.db import after_commit, transaction
from app.kit.ids import new_id
from app.kit.storage import Storage, get_storage, require_space
from app.settings import Settings

KEPT = timedelta(days=1)
_EVERY_SECONDS = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class OpenUpload:
    """An unfinished upload and how much of it is here, in bytes."""

    upload: Upload
    received: int

    @property
    def is_whole(self) -> bool:
        """Tell whether all of it is here, so that it can become a version."""
        return self.received == self.upload.bytes

    @property
    def expires_at(self) -> datetime:
        """Return when it is deleted unless more of it comes."""
        return self.upload.updated_at + KEPT


def staging(settings: Settings) -> Storage:
    """Return where parts lie: the storage, or this machine where the storage is elsewhere."""
    storage = get_storage(settings)
    if storage.local_path(PLACE) is not None:
        return storage
    return Storage(f"file://{settings.data_folder / 'storage'}")


def path_of(settings: Settings, upload: Upload) -> Path:
    """Return where an upload's part lies on this machine."""
    path = staging(settings).local_path(upload.key)
    assert path is not None  # what ``staging`` is for
    return path


def begin(
    session: Session, *, actor: Actor, settings: Settings, filename: str, size: int
) -> OpenUpload:
    """Begin an upload of ``size`` bytes; it counts towards the quota at once."""
    require_size(settings, size)
    quota.require(session, actor=actor, settings=settings, size=size)
    upload = Upload(id=new_id("up"), owner_id=actor.id, filename=filename, bytes=size, received=0)
    session.add(upload)
    session.flush()
    parts.create(path_of(settings, upload))
    return OpenUpload(upload, 0)


def find(session: Session, *, actor: Actor, settings: Settings, upload_id: str) -> OpenUpload:
    """Return one's own upload; for all others there is none."""
    upload = session.get(Upload, upload_id)
    if upload is None or upload.owner_id != actor.id:
        raise parts.gone()
    return OpenUpload(upload, parts.size_of(path_of(settings, upload)))


def unfinished(session: Session, *, actor: Actor, settings: Settings) -> Sequence[OpenUpload]:
    """Return one's own uploads that are not yet versions, newest first."""
    statement = select(Upload).where(Upload.owner_id == actor.id).order_by(Upload.id.desc())
    found: list[OpenUpload] = []
    for upload in session.scalars(statement):
        try:
            found.append(OpenUpload(upload, parts.size_of(path_of(settings, upload))))
        except NotFound:
            continue  # swept this moment
    return found


def note(session: Session, *, upload_id: str, received: int) -> OpenUpload:
    """Write down how far an upload came; ``NotFound`` if it was given up meanwhile."""
    upload = session.get(Upload, upload_id, with_for_update=True)
    if upload is None:
        raise parts.gone()
    upload.received, upload.updated_at = received, utc_now()
    session.flush()
    return OpenUpload(upload, received)


def give_up(session: Session, *, actor: Actor, settings: Settings, upload_id: str) -> None:
    """Delete one's own upload and what has come of it, even while more is coming."""
    upload = session.get(Upload, upload_id, with_for_update=True)
    if upload is None or upload.owner_id != actor.id:
        raise parts.gone()
    _delete(session, settings, upload)


def _delete(session: Session, settings: Settings, upload: Upload) -> None:
    session.delete(upload)
    session.flush()
    after_commit(session, partial(staging(settings).delete, upload.key))


def require_rest(settings: Settings, *, rest: int, coming: int) -> None:
    """Raise ``TooLarge`` or ``NoSpace`` unless ``coming`` of the ``rest`` bytes can be taken."""
    if coming > rest:
        raise TooLarge(
            f"{coming} bytes come, but only {rest} are missing. "
            "Begin a new upload if the file has changed."
        )
    require_space(settings.data_folder, coming)


@contextmanager
def whole(settings: Settings, found: OpenUpload) -> Iterator[Content]:
    """Hash a whole upload and give its content, held against writers while the block lasts.

    Raises ``Conflict`` if bytes are still missing, or while another request works on it.
    """
    upload, storage = found.upload, get_storage(settings)
    path = path_of(settings, upload)
    with parts.held(path) as part:
        if part.size != upload.bytes:
            raise Conflict(
                f"{quota.sized(upload.bytes - part.size)} of {upload.filename} are still missing. "
                "Send the rest first.",
                code="upload_incomplete",
            )
        elsewhere = storage.local_path(PLACE) is None
        with path.open("rb") as source:
            target = storage.open(upload.key, "wb") if elsewhere else None
            with target or nullcontext():
                sha256 = hashed(source, target)
        yield Content(upload.key, upload.filename, upload.bytes, sha256)


def sweep(session: Session, *, settings: Settings) -> int:
    """Delete uploads of which nothing has come for a day; return how many."""
    old = utc_now() - KEPT
    statement = select(Upload).where(Upload.updated_at < old).with_for_update(skip_locked=True)
    swept = 0
    for upload in session.scalars(statement).all():
        path = path_of(settings, upload)
        if path.exists() and path.stat().st_mtime > old.timestamp():
            continue  # one long piece is still coming
        _delete(session, settings, upload)
        swept += 1
    after_commit(session, partial(staging(settings).sweep, PLACE, older_than=KEPT))
    return swept


@contextmanager
def sweeping(settings: Settings) -> Iterator[None]:
    """Sweep now and every hour in a thread while the block lasts."""
    ended = threading.Event()
    thread = threading.Thread(target=_sweep_on, args=(settings, ended), name="sweeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _sweep_on(settings: Settings, ended: threading.Event) -> None:
    while True:
        try:
            with transaction(settings.database_url or "") as session:
                sweep(session, settings=settings)
        except Exception as error:  # noqa: BLE001  # Postgres may be away; the next round tells
            log.warning("sweeper_failed", error=repr(error))
        if ended.wait(_EVERY_SECONDS):
            return
