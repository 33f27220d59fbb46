"""Base models: what may be tuned, what is on its way, how to add one. Translation only."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.datastructures import FormData
from starlette.responses import Response

from app.auth import users
from app.auth.models import User
from app.auth.roles import Actor
from app.basemodels import service
from app.basemodels.schemas import BaseModelRequest
from app.basemodels.service import BaseModelView
from app.dependencies import CurrentUser, Member, SessionDep, SettingsDep
from app.errors import AppError
from app.kit.pagination import PageRequest
from app.settings import Settings
from web.forms import Form, flat, messages, read_form, with_error
from web.htmx import HtmxDep, Toast, hx_redirect, redirect
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/models")
Posted = Annotated[FormData, Depends(read_form)]
_ALL = PageRequest(limit=1000)


@dataclass(frozen=True)
class Row:
    """A model in the list."""

    view: BaseModelView
    owner: User | None
    may_change: bool


@dataclass(frozen=True)
class ModelsTable:
    """All models; it refreshes itself while one is on its way."""

    template: ClassVar[str] = "models/_table.html"
    rows: tuple[Row, ...]
    may_write: bool

    @property
    def is_loading(self) -> bool:
        """Tell whether a download is under way."""
        return any(row.view.model.status == "downloading" for row in self.rows)


@dataclass(frozen=True)
class Add:
    """The dialog that adds a model: from the hub, or a folder that lies there already."""

    template: ClassVar[str] = "models/_add.html"
    form: Form
    folders: tuple[str, ...]
    models_folder: str

    @property
    def choices(self) -> list[tuple[str, str]]:
        """Return the folders as a select's options."""
        return [(name, name) for name in self.folders]


@dataclass(frozen=True)
class AddPage:
    """The same as a page, for browsers without scripts."""

    template: ClassVar[str] = "models/add.html"
    add: Add


@dataclass(frozen=True)
class ModelsPage:
    """All base models."""

    template: ClassVar[str] = "models/index.html"
    table: ModelsTable
    folders: tuple[str, ...]


def _table(session: Session, actor: Actor) -> ModelsTable:
    found = service.list_models(session, page=_ALL).items
    people = users.by_id(session, {view.model.created_by for view in found})
    rows = tuple(
        Row(view, people.get(view.model.created_by), actor.owns(view.model.created_by))
        for view in found
    )
    return ModelsTable(rows, actor.may_write)


@router.get("", name="pages.models")
def index(
    session: SessionDep, settings: SettingsDep, actor: CurrentUser, shell: ShellDep
) -> Response:
    """List base models."""
    folders = tuple(service.unregistered_folders(session, settings))
    return render(ModelsPage(_table(session, actor), folders), shell)


@router.get("/table", name="pages.models.table")
def table(session: SessionDep, actor: CurrentUser, shell: ShellDep) -> Response:
    """Return the list alone."""
    return render(_table(session, actor), shell)


@router.get("/add", name="pages.models.add")
def add_form(
    session: SessionDep, settings: SettingsDep, actor: Member, shell: ShellDep, htmx: HtmxDep
) -> Response:
    """Show how to add a model, in a dialog or as a page."""
    del actor
    add = _add(session, settings, Form())
    return render(add if htmx.wants_fragment else AddPage(add), shell)


def _add(session: Session, settings: Settings, form: Form) -> Add:
    folders = tuple(service.unregistered_folders(session, settings))
    return Add(form, folders, str(settings.models_folder))


@router.post("/add", name="pages.models.add.post")
def add_model(  # FastAPI passes them by name
    session: SessionDep,
    settings: SettingsDep,
    actor: Member,
    shell: ShellDep,
    htmx: HtmxDep,
    posted: Posted,
) -> Response:
    """Download a hub model, or register a folder."""
    values = flat(posted)
    try:
        wanted = BaseModelRequest.model_validate({k: v for k, v in values.items() if v})
        with session.begin_nested():
            message = _added(session, settings, actor, wanted)
        return hx_redirect("/models", htmx, message)
    except ValidationError as error:
        form, status = Form(values, _plain(messages(error))), 422
    except AppError as error:
        form, status = with_error(Form(values), error), error.status
    add = _add(session, settings, form)
    return render(add if htmx.wants_fragment else AddPage(add), shell, status=status)


def _plain(errors: dict[str, str]) -> dict[str, str]:
    """Say what a pattern means; what concerns no field stands at the first one."""
    words = {
        "hub_id": "Write it like organisation/name, as the hub shows it.",
        "revision": "Write a commit, tag or branch.",
        "folder": "Write the folder's name, without a path.",
        "": "Name a hub model or a folder.",
    }
    return {(place or "hub_id"): words.get(place, text) for place, text in errors.items()}


def _added(session: Session, settings: Settings, actor: Actor, wanted: BaseModelRequest) -> Toast:
    if wanted.folder:
        model = service.register_folder(session, settings, actor=actor, folder=wanted.folder)
        return Toast(f"{model.name} is ready to be tuned.")
    model = service.register_hub(
        session, actor=actor, hub_id=wanted.hub_id or "", revision=wanted.revision
    )
    return Toast(f"{model.name} is being downloaded.")


@router.post("/{model_id}/delete", name="pages.models.delete")
def delete(model_id: str, session: SessionDep, settings: SettingsDep, actor: Member) -> Response:
    """Remove a model; refused while unfinished runs need it."""
    name = service.get(session, model_id=model_id).name
    try:
        with session.begin_nested():
            service.delete(session, settings, actor=actor, model_id=model_id)
    except AppError as error:
        return redirect("/models", Toast(error.detail, "bad"))
    return redirect("/models", Toast(f"{name} is removed."))
