"""The other ways into the list of datasets: pasted rows, files of the box, unfinished uploads.

Translation only: what may come in lives in ``app.datasets``. Each page works without scripts; with
them it opens in the dialog.
"""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from app.datasets.arriving import importing, receiving, uploads
from app.datasets.arriving.arrivals import Arrival
from app.datasets.arriving.importing import Listing
from app.dependencies import (
    Member,
    OpenSessionDep,
    SessionDep,
    SettingsDep,
    UploadActor,
)
from app.errors import AppError, Invalid, TooLarge
from web.forms import Form, flat, with_error
from web.htmx import HtmxDep, Toast, hx_redirect, redirect
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/datasets")

MOST_PASTED = 4 * 2**20  # bytes; more than that belongs into a file
_FORM_BYTES = 2**16


@dataclass(frozen=True)
class Paste:
    """The form for pasted rows: of a new dataset, or of a new version of one."""

    template: ClassVar[str] = "datasets/_paste.html"
    form: Form
    dataset_id: str = ""


@dataclass(frozen=True)
class PastePage:
    """The form for pasted rows as a page of its own."""

    template: ClassVar[str] = "datasets/paste.html"
    paste: Paste


@dataclass(frozen=True)
class Folder:
    """The files of the import folder, or why there are none."""

    template: ClassVar[str] = "datasets/_folder.html"
    listing: Listing | None
    problem: str = ""
    dataset_id: str = ""


@dataclass(frozen=True)
class FolderPage:
    """The import folder as a page of its own."""

    template: ClassVar[str] = "datasets/folder.html"
    folder: Folder


@router.get("/paste", name="pages.datasets.paste")
def paste_form(actor: Member, shell: ShellDep, htmx: HtmxDep, dataset: str = "") -> Response:
    """Show the form for pasted rows, in the dialog or as a page."""
    del actor
    shown = Paste(Form(), dataset)
    return render(shown if htmx.wants_fragment else PastePage(shown), shell)


@router.post("/paste", name="pages.datasets.paste.post")
async def paste(
    request: Request,
    actor: UploadActor,
    settings: SettingsDep,
    open_session: OpenSessionDep,
    shell: ShellDep,
    htmx: HtmxDep,
) -> Response:
    """Take pasted rows as a dataset; what is wrong is said at its field, with the text kept."""
    arrival = Arrival(open_session, actor, settings)
    values: dict[str, str] = {}
    try:
        posted = await _read(request)
        values = flat(posted)
        dataset_id = await run_in_threadpool(_store, arrival, str(posted.get("text", "")), values)
    except AppError as error:
        shown = Paste(with_error(Form(values), error), values.get("dataset", ""))
        page = shown if htmx.wants_fragment else PastePage(shown)
        return await run_in_threadpool(render, page, shell, status=error.status)
    return await run_in_threadpool(hx_redirect, f"/datasets/{dataset_id}", htmx)


async def _read(request: Request) -> FormData:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MOST_PASTED + _FORM_BYTES:
        raise TooLarge("Paste at most 4 MB. Save more than that in a file and drop the file.")
    try:
        return await request.form(max_files=0, max_fields=10, max_part_size=MOST_PASTED)
    except HTTPException as error:
        raise Invalid("The form could not be read. Paste at most 4 MB of text.") from error


def _store(arrival: Arrival, text: str, values: dict[str, str]) -> str:
    if not text.strip():
        raise Invalid.field("text", "paste at least one row")
    fields = {name: values.get(name, "") for name in ("name", "dataset")}
    if not fields["name"] and not fields["dataset"]:
        fields["name"] = "Pasted rows"
    received = receiving.keep_text(text, storage=arrival.storage, fields=fields)
    try:
        return arrival.store(received, lambda view: view.dataset.id)
    finally:
        arrival.storage.delete(received.key)


@router.get("/import", name="pages.datasets.import")
def import_form(
    actor: Member, settings: SettingsDep, shell: ShellDep, htmx: HtmxDep, dataset: str = ""
) -> Response:
    """Show the files of the import folder, in the dialog or as a page."""
    del actor
    try:
        shown = Folder(importing.listing(settings), dataset_id=dataset)
    except AppError as error:
        shown = Folder(None, error.detail, dataset)
    return render(shown if htmx.wants_fragment else FolderPage(shown), shell)


@router.post("/uploads/{upload_id}/discard", name="pages.datasets.discard")
def discard(upload_id: str, session: SessionDep, actor: Member, settings: SettingsDep) -> Response:
    """Give an unfinished upload up."""
    try:
        uploads.give_up(session, actor=actor, settings=settings, upload_id=upload_id)
    except AppError as error:
        return redirect("/datasets", Toast(error.detail, "bad"))
    return redirect("/datasets", Toast("Discarded."))
