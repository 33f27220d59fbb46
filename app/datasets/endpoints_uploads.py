"""Uploads in pieces (tus 1.0) and the import folder, over HTTP. Translation only.

What a piece is allowed to do lives in ``uploads`` and ``parts``. Extensions: creation,
creation-with-upload, expiration, termination. Answers are for our own pages and for scripts: no
other origin is let in.
"""

import base64
import binascii
import io
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from app.auth.roles import Actor
from app.datasets import schemas
from app.datasets.arriving import importing, parts, uploads
from app.datasets.arriving.receiving import base_name
from app.datasets.arriving.uploads import OpenUpload
from app.datasets.intake import first_look
from app.datasets.problems import Code
from app.dependencies import (
    CurrentUser,
    Member,
    OpenSession,
    OpenSessionDep,
    SessionDep,
    SettingsDep,
    UploadActor,
)
from app.errors import AppError, Invalid, Unavailable, Unsupported
from app.settings import Settings

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,termination"
PATH = "/api/v1/uploads"
_PIECE = "application/offset+octet-stream"
_RESUMABLE = {"Tus-Resumable": VERSION}
_MOST_METADATA = 8192

UploadLength = Annotated[int, Header(alias="Upload-Length", ge=0)]
UploadOffset = Annotated[int, Header(alias="Upload-Offset", ge=0)]
UploadMetadata = Annotated[str, Header(alias="Upload-Metadata", max_length=_MOST_METADATA)]


class WrongVersion(AppError):
    """The client speaks another version of tus."""

    status = 412
    code = "wrong_tus_version"
    title = "Another version of the protocol"


class TusRoute(APIRoute):
    """A route of the protocol: it asks for the version, and every answer names ours."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the version around it."""
        handler = super().get_route_handler()

        async def versioned(request: Request) -> Response:
            try:
                if request.headers.get("tus-resumable") != VERSION:
                    raise WrongVersion(f"Send the header Tus-Resumable: {VERSION}.")
                response = await handler(request)
            except AppError as error:
                error.headers = {**error.headers, **_RESUMABLE, "Tus-Version": VERSION}
                raise
            response.headers.update(_RESUMABLE)
            return response

        return versioned


@dataclass(frozen=True)
class Sender:
    """Who sends a piece; no transaction is open while it comes."""

    actor: Actor
    settings: Settings
    open_session: OpenSession


def sender_of(actor: UploadActor, settings: SettingsDep, open_session: OpenSessionDep) -> Sender:
    """Return who sends, with what the request needs."""
    return Sender(actor, settings, open_session)


SenderDep = Annotated[Sender, Depends(sender_of)]
router = APIRouter(tags=["Uploads"])
tus = APIRouter(prefix="/uploads", route_class=TusRoute)


@router.options("/uploads", status_code=204, name="uploads.options")
def options(actor: CurrentUser, settings: SettingsDep) -> Response:
    """Say what this tus server can do."""
    del actor
    headers = {
        **_RESUMABLE,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(settings.max_upload_bytes),
    }
    return Response(status_code=204, headers=headers)


@router.get("/uploads", name="uploads.index")
def index(session: SessionDep, actor: Member, settings: SettingsDep) -> schemas.UploadList:
    """List one's own unfinished uploads."""
    found = uploads.unfinished(session, actor=actor, settings=settings)
    items = [
        schemas.UploadOut(
            id=one.upload.id,
            filename=one.upload.filename,
            bytes=one.upload.bytes,
            received=one.received,
            created_at=one.upload.created_at,
            expires_at=one.expires_at,
        )
        for one in found
    ]
    return schemas.UploadList(items=items, next=None, total=len(items))


@tus.post("", status_code=201, name="uploads.create")
async def create(
    request: Request, sender: SenderDep, length: UploadLength, metadata: UploadMetadata = ""
) -> Response:
    """Begin an upload; a body is its first piece.

    Metadata: `filename`, and `head`, the base64 of the file's first bytes, by which what is no
    dataset is refused before it is sent.
    """
    values = _metadata(metadata)
    await run_in_threadpool(_require_kind, values)
    filename = base_name(values.get("filename", b""))

    def begin() -> OpenUpload:
        with sender.open_session() as session:
            return uploads.begin(
                session,
                actor=sender.actor,
                settings=sender.settings,
                filename=filename,
                size=length,
            )

    begun = await run_in_threadpool(begin)
    if request.headers.get("content-type") == _PIECE:
        begun = await _append(request, sender, begun.upload.id, 0)
    headers = _state(begun) | {"Location": f"{PATH}/{begun.upload.id}"}
    return Response(status_code=201, headers=headers)


@tus.head("/{upload_id}", name="uploads.head")
def head(upload_id: str, session: SessionDep, actor: Member, settings: SettingsDep) -> Response:
    """Say how much of an upload is here."""
    found = uploads.find(session, actor=actor, settings=settings, upload_id=upload_id)
    headers = _state(found) | {"Upload-Length": str(found.upload.bytes)}
    return Response(status_code=200, headers=headers | {"Cache-Control": "no-store"})


@tus.patch("/{upload_id}", status_code=204, name="uploads.append")
async def append(
    upload_id: str, request: Request, sender: SenderDep, offset: UploadOffset
) -> Response:
    """Append a piece at the end of what is here; 409 says where that is."""
    if request.headers.get("content-type") != _PIECE:
        raise Unsupported(f"Send the piece as {_PIECE}.")
    found = await _append(request, sender, upload_id, offset)
    return Response(status_code=204, headers=_state(found))


@tus.delete("/{upload_id}", status_code=204, name="uploads.delete")
def delete(upload_id: str, session: SessionDep, actor: Member, settings: SettingsDep) -> Response:
    """Give an upload up: what has come of it is deleted."""
    uploads.give_up(session, actor=actor, settings=settings, upload_id=upload_id)
    return Response(status_code=204)


async def _append(request: Request, sender: Sender, upload_id: str, offset: int) -> OpenUpload:
    settings = sender.settings

    def find() -> OpenUpload:
        with sender.open_session() as session:
            return uploads.find(session, actor=sender.actor, settings=settings, upload_id=upload_id)

    def note(received: int) -> OpenUpload:
        with sender.open_session() as session:
            return uploads.note(session, upload_id=upload_id, received=received)

    found = await run_in_threadpool(find)
    with parts.held(uploads.path_of(settings, found.upload)) as part:
        parts.require_offset(part, offset)
        rest = found.upload.bytes - part.start
        uploads.require_rest(settings, rest=rest, coming=_length(request))
        try:
            await parts.append(part, request.stream(), limit=rest)
        except ClientDisconnect as error:
            raise Unavailable(
                "The line broke. What arrived is kept; go on from there.", code="upload_stalled"
            ) from error
        finally:
            noted = await run_in_threadpool(note, part.size)
    return noted


def _length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() else 0


def _state(found: OpenUpload) -> dict[str, str]:
    return {
        "Upload-Offset": str(found.received),
        "Upload-Expires": format_datetime(found.expires_at, usegmt=True),
    }


def _metadata(header: str) -> dict[str, bytes]:
    """Return the pairs of ``Upload-Metadata``: ``key base64, key base64, …``."""
    values: dict[str, bytes] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, value = pair.partition(" ")
        try:
            values[key] = base64.b64decode(value.strip(), validate=True)
        except binascii.Error as error:
            raise Invalid.field(
                "Upload-Metadata", f"the value of {key[:40]} is no base64"
            ) from error
    return values


def _require_kind(values: dict[str, bytes]) -> None:
    """Raise ``Unsupported`` if the file's first bytes show that it is no dataset."""
    try:
        start = base64.b64decode(values.get("head", b""), validate=True)
    except binascii.Error as error:
        raise Invalid.field("Upload-Metadata", "the value of head is no base64") from error
    refusal = first_look(io.BytesIO(start)) if start else None
    if refusal is not None and refusal.code == Code.UNKNOWN_FORMAT:
        raise Unsupported(
            f"It is not a dataset: {refusal.message}. Taken are JSON Lines, JSON, CSV, TSV and "
            "Parquet, plain or as .gz or .zst.",
            code="wrong_kind",
        )


@router.get("/imports", name="imports.index")
def imports(actor: Member, settings: SettingsDep) -> schemas.ImportList:
    """List the files of the import folder; 409 while imports are off."""
    del actor
    found = importing.listing(settings)
    items = [schemas.ImportFileOut.model_validate(file) for file in found.files]
    return schemas.ImportList(items=items, next=None, total=len(items), more=found.more)


router.include_router(tus)
