"""Which rows of a version are held out: its splits, and the form that makes one.

Translation only; what a split is stands in ``app.datasets.splits``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Response
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.auth.roles import Actor
from app.datasets import describing, service, splits
from app.datasets.models import DatasetSplit, DatasetVersion
from app.datasets.schemas_hygiene import SplitWish
from app.dependencies import Member, SessionDep, SettingsDep
from app.errors import AppError
from app.jobs.models import Job
from app.kit.schemas import sentence
from app.kit.storage import get_storage
from app.settings import Settings
from web.filters import percent
from web.forms import Form, flat, read_form, with_error
from web.htmx import HtmxDep, Toast, hx_redirect, redirect
from web.pages.dataset_head import Head, VisitDep, head_of
from web.pages.dataset_repeats import choices_of
from web.rendering import render
from web.shell import Shell, ShellDep

router = APIRouter(prefix="/datasets")
METHODS: Mapping[str, str] = {
    "random": "at random, by seed",
    "stratified": "the same share of each value of a column",
    "group": "whole groups: all rows with one value of a column",
    "column": "as a column says",
    "file": "another dataset is what is measured with",
}
_WISH: TypeAdapter[SplitWish] = TypeAdapter(SplitWish)


@dataclass(frozen=True)
class SplitRow:
    """A stored split in words; ``job`` is at work on it while it is ``making``."""

    split: DatasetSplit
    title: str
    facts: tuple[str, ...]
    job: Job | None = None

    @property
    def status(self) -> str:
        """Return making, ready or failed."""
        return splits.status_of(self.split, self.job)[0]

    @property
    def failure(self) -> str | None:
        """Return why it could not be made."""
        return splits.status_of(self.split, self.job)[1]

    @property
    def title_with_facts(self) -> str:
        """Return all that tells it from others, in one line."""
        return ", ".join((self.title, *self.facts))

    @property
    def trained(self) -> int:
        """Return how many rows are trained."""
        return int(self.split.result.get("trained", 0))

    @property
    def held_out(self) -> int:
        """Return how many rows are held out."""
        return int(self.split.result.get("held_out", 0))

    @property
    def moved(self) -> int:
        """Return how many rows were moved to keep copies together."""
        return int(self.split.result.get("moved", 0))


@dataclass(frozen=True)
class Parted:
    """The splits of a version, and how far those are that are being made."""

    template: ClassVar[str] = "datasets/_parted.html"
    version: DatasetVersion
    rows: tuple[SplitRow, ...]
    may_write: bool

    @property
    def making(self) -> bool:
        """Tell whether one of them is still being made."""
        return any(row.status == "making" for row in self.rows)


@dataclass(frozen=True)
class Splits:
    """The splits of a version, and the form for another."""

    template: ClassVar[str] = "datasets/_splits.html"
    version: DatasetVersion
    parted: Parted
    method: str
    columns: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    form: Form
    may_write: bool
    usable: bool

    @property
    def methods(self) -> list[tuple[str, str]]:
        """Return the methods to choose from."""
        return list(METHODS.items())


@dataclass(frozen=True)
class SplitsPage:
    """The splits with the dataset's head."""

    template: ClassVar[str] = "datasets/splits.html"
    head: Head
    splits: Splits


@router.get("/{dataset_id}/splits", name="pages.datasets.splits")
def index(
    visit: VisitDep,
    method: str = "random",
) -> Response:
    """Show the splits, and the fields of the chosen method."""
    head = visit.head("splits")
    shown = _splits(visit.session, visit.settings, visit.actor, head, method, Form())
    return visit.answer(SplitsPage(head, shown), shown)


@router.get("/{dataset_id}/splits/parted", name="pages.datasets.splits.parted")
def parted(visit: VisitDep) -> Response:
    """Return the stored splits alone, and how far those are that are being made."""
    head = visit.head("splits")
    return render(_parted(visit.session, visit.actor, head), visit.shell)


@router.post("/{dataset_id}/splits", name="pages.datasets.splits.create")
def create(  # each is a dependency
    dataset_id: str,
    session: SessionDep,
    actor: Member,
    shell: ShellDep,
    settings: SettingsDep,
    htmx: HtmxDep,
    posted: Annotated[FormData, Depends(read_form)],
) -> Response:
    """Store a split, or show at its field what is wrong."""
    values = flat(posted)
    try:
        wish = _WISH.validate_python(_nested(values))
    except ValidationError as error:
        errors = {_field(one["loc"]): sentence(one) for one in error.errors(include_url=False)}
        return _again(dataset_id, session, settings, actor, shell, Form(values, errors), 422)
    try:
        of = service.get_version(session, dataset_id=dataset_id, number=wish.version)
        parameters = wish.model_dump(mode="json", exclude={"version", "method"})
        split = splits.create(
            session,
            actor=actor,
            storage=get_storage(settings),
            version=of,
            method=wish.method,
            parameters=parameters,
        )
    except AppError as error:
        form = with_error(Form(values), error)
        return _again(dataset_id, session, settings, actor, shell, form, error.status)
    address = f"/datasets/{dataset_id}/splits?version={of.number}"
    if not split.is_made:
        return hx_redirect(address, htmx, Toast("Under way: this version is large."))
    return hx_redirect(address, htmx, Toast("Kept. A new run can use it."))


@router.post("/{dataset_id}/splits/{split_id}/delete", name="pages.datasets.splits.delete")
def delete(
    dataset_id: str, split_id: str, session: SessionDep, actor: Member, settings: SettingsDep
) -> Response:
    """Delete a split, or say which runs use it."""
    storage = get_storage(settings)
    message = Toast("Deleted.")
    try:
        splits.delete(
            session, actor=actor, storage=storage, dataset_id=dataset_id, split_id=split_id
        )
    except AppError as error:
        message = Toast(error.detail, "bad")
    return redirect(f"/datasets/{dataset_id}/splits", message)


def _nested(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the form's fields as the schema has them; of each method only its own are sent."""
    wish: dict[str, Any] = {
        name: value for name, value in values.items() if value and name not in {"file", "held_out"}
    }
    wish["keep_copies_together"] = values.get("keep_copies_together", "true") in {"true", "on"}
    if values.get("file"):
        wish["file"] = {"id": values["file"]}
    if values.get("held_out"):
        wish["held_out"] = [one.strip() for one in values["held_out"].split(",") if one.strip()]
    return wish


def _field(loc: tuple[int | str, ...]) -> str:
    """Return the form's name of a place in the schema; the method's name stands before it."""
    parts = [str(part) for part in loc if str(part) not in METHODS or part == "file"]
    return parts[0] if parts else "method"


def _again(  # what the page is made of again
    dataset_id: str,
    session: Session,
    settings: Settings,
    actor: Actor,
    shell: Shell,
    form: Form,
    status: int,
) -> Response:
    number = str(form.value("version"))
    head = head_of(
        session,
        actor,
        dataset_id=dataset_id,
        number=int(number) if number.isdigit() else None,
        section="splits",
    )
    shown = _splits(session, settings, actor, head, str(form.value("method", "random")), form)
    return render(SplitsPage(head, shown), shell, status=status)


def _splits(  # what the page shows
    session: Session, settings: Settings, actor: Actor, head: Head, method: str, form: Form
) -> Splits:
    of = head.version
    return Splits(
        version=of,
        parted=_parted(session, actor, head),
        method=method if method in METHODS else "random",
        columns=describing.columns_of(get_storage(settings), of),
        others=choices_of(session, of),
        form=form,
        may_write=actor.may_write,
        usable=head.usable,
    )


def _parted(session: Session, actor: Actor, head: Head) -> Parted:
    of = head.version
    found = splits.listed(session, dataset_id=of.dataset_id, number=of.number)
    jobs = splits.jobs_of(session, found)
    rows = tuple(row_of(split, jobs.get(split.id)) for split in found)
    return Parted(of, rows, actor.may_write)


def row_of(split: DatasetSplit, job: Job | None = None) -> SplitRow:
    """Return a split in words."""
    given = split.parameters
    facts: list[str] = []
    if "column" in given:
        facts.append(f"column {given['column']}")
    if "fraction" in given:
        facts.append(f"{percent(given['fraction'])} held out")
    if "seed" in given:
        facts.append(f"seed {given['seed']}")
    if not given.get("keep_copies_together", True):
        facts.append("copies may part")
    return SplitRow(split, METHODS.get(split.method, split.method), tuple(facts), job)
