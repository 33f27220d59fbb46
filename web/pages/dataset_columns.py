"""Which column of a file is which of ours: the form that says it.

Translation only; what it means is ``app.datasets.describing``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.datasets import describing, reading
from app.datasets.formats import FORMATS
from app.datasets.formats.base import Column
from app.datasets.models import DatasetVersion
from app.dependencies import CurrentUser, Member, SessionDep, SettingsDep
from app.errors import AppError
from app.kit.storage import Storage, get_storage
from web.forms import Form, flat, read_form, with_error
from web.htmx import HtmxDep, Toast, hx_redirect
from web.pages.dataset_head import Head, VisitDep, head_of
from web.rendering import render
from web.shell import Shell, ShellDep

router = APIRouter(prefix="/datasets")
_SHOWN_CHARACTERS = 120
# What other people call our columns, for a first proposal.
_USUAL: Mapping[str, tuple[str, ...]] = {
    "messages": ("conversation", "conversations", "chat", "dialog", "turns"),
    "conversations": ("conversation", "messages", "chat", "dialog", "turns"),
    "instruction": ("question", "prompt", "query", "task", "user"),
    "input": ("context",),
    "output": ("response", "answer", "completion", "target", "assistant"),
    "prompt": ("question", "instruction", "query", "input", "user"),
    "completion": ("answer", "response", "output", "target", "assistant"),
    "chosen": ("preferred", "better", "accepted", "positive", "response_chosen"),
    "rejected": ("dispreferred", "worse", "negative", "response_rejected"),
    "system": ("system_prompt", "sys"),
    "label": ("is_good", "good"),
}


@dataclass(frozen=True)
class FileColumn:
    """A column of the file, with its value in the first row."""

    name: str
    example: str


@dataclass(frozen=True)
class Columns:
    """The form: a format, and for each of its columns one of the file's."""

    template: ClassVar[str] = "datasets/_columns.html"
    version: DatasetVersion
    file_columns: tuple[FileColumn, ...]
    chosen: str
    form: Form

    @property
    def formats(self) -> list[tuple[str, str]]:
        """Return the formats to choose from."""
        known = [(name, taken.title) for name, taken in FORMATS.items()]
        return [("", "detect it from the rows"), *known]

    @property
    def ours(self) -> tuple[Column, ...]:
        """Return the columns of the chosen format."""
        taken = FORMATS.get(self.chosen)
        return taken.columns if taken else ()

    @property
    def options(self) -> list[tuple[str, str]]:
        """Return the file's columns to choose from."""
        return [("", "–"), *((column.name, column.name) for column in self.file_columns)]


@dataclass(frozen=True)
class ColumnsPage:
    """The form with the dataset's head."""

    template: ClassVar[str] = "datasets/columns.html"
    head: Head
    columns: Columns


@router.get("/{dataset_id}/columns", name="pages.datasets.columns")
def index(
    visit: VisitDep,
    format: str | None = None,  # noqa: A002  # the query's own word
) -> Response:
    """Show the form, for another format if one is chosen."""
    head = visit.head("")
    known = head.version.declared_format or head.version.format or ""
    chosen = known if format is None else format
    columns = _columns(visit.storage, head.version, chosen if chosen in FORMATS else "")
    return visit.answer(ColumnsPage(head, columns), columns)


@router.post("/{dataset_id}/columns", name="pages.datasets.columns.save")
def save(  # each is a query parameter or a dependency
    dataset_id: str,
    session: SessionDep,
    actor: Member,
    shell: ShellDep,
    settings: SettingsDep,
    htmx: HtmxDep,
    posted: Annotated[FormData, Depends(read_form)],
) -> Response:
    """Say it, and see the check start again."""
    values = flat(posted)
    number = values.get("version", "")
    storage = get_storage(settings)
    prefix = "mapping."
    mapping = {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix) and value and value != name.removeprefix(prefix)
    }
    try:
        view = describing.describe(
            session,
            actor=actor,
            storage=storage,
            dataset_id=dataset_id,
            number=int(number) if number.isdigit() else None,
            declared_format=values.get("format") or None,
            mapping=mapping if values.get("format") else {},
        )
    except AppError as error:
        return _refused(session, shell, actor, storage, dataset_id, values, error)
    version = number or view.latest.number
    text = "The rows are checked again."
    return hx_redirect(f"/datasets/{dataset_id}?version={version}", htmx, Toast(text))


def _refused(  # what the page is made of again
    session: Session,
    shell: Shell,
    actor: CurrentUser,
    storage: Storage,
    dataset_id: str,
    values: Mapping[str, str],
    error: AppError,
) -> Response:
    number = values.get("version", "")
    head = head_of(
        session,
        actor,
        dataset_id=dataset_id,
        number=int(number) if number.isdigit() else None,
        section="",
    )
    chosen = values.get("format", "")
    shown = Columns(
        version=head.version,
        file_columns=_file_columns(storage, head.version),
        chosen=chosen if chosen in FORMATS else "",
        form=with_error(Form(values=values), error),
    )
    return render(ColumnsPage(head, shown), shell, status=error.status)


def _columns(storage: Storage, version: DatasetVersion, chosen: str) -> Columns:
    file_columns = _file_columns(storage, version)
    names = [column.name for column in file_columns]
    mapping = version.mapping if chosen == version.declared_format else None
    ours = FORMATS[chosen].columns if chosen else ()
    values = {
        f"mapping.{column.name}": (mapping or {}).get(column.name) or proposed(column.name, names)
        for column in ours
    }
    return Columns(version, file_columns, chosen, Form(values={"format": chosen, **values}))


def proposed(ours: str, theirs: list[str]) -> str:
    """Return which of the file's columns is probably ours: by its name, or by a usual one."""
    lowered = {name.strip().lower(): name for name in reversed(theirs)}
    for candidate in (ours, *_USUAL.get(ours, ())):
        if candidate in lowered:
            return lowered[candidate]
    return ""


def _file_columns(storage: Storage, version: DatasetVersion) -> tuple[FileColumn, ...]:
    names = describing.columns_of(storage, version)
    first: dict[str, Any] = {}
    try:
        found, _ = reading.examples(storage, version, first=1, limit=1)
    except AppError:
        found = []
    if found and isinstance(found[0].row, dict):
        first = found[0].row
    return tuple(FileColumn(name, _shown(first.get(name))) for name in names)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:_SHOWN_CHARACTERS] + ("…" if len(text) > _SHOWN_CHARACTERS else "")
