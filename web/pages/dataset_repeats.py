"""Rows that repeat each other: within a version, and between it and another dataset.

Translation only; what a copy and a near copy is stands in ``app.datasets``.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from app.datasets import service
from app.datasets.alike import overlap, repetition
from app.datasets.alike.overlap import Pair
from app.datasets.models import DatasetVersion
from app.errors import AppError
from app.kit.pagination import PageRequest
from app.kit.storage import Storage
from web.filters import percent
from web.pages.dataset_head import Head, VisitDep
from web.pages.dataset_text import Beside, text_of
from web.words import compared

router = APIRouter(prefix="/datasets")
_PAIRS = 20
_CHOICES = 500  # datasets to compare with


@dataclass(frozen=True)
class Repeats:
    """Counts, and pairs of rows side by side."""

    template: ClassVar[str] = "datasets/_repeats.html"
    version: DatasetVersion
    other: DatasetVersion | None
    choices: tuple[tuple[str, str], ...]
    chosen: str
    rows: int
    copies: int | None
    near: int | None
    of: int
    groups: int | None
    complete: bool
    pairs: tuple[Beside, ...]
    next: str | None
    failure: str

    @property
    def more(self) -> str:
        """Return the address of the next pairs."""
        query = {"version": self.version.number, "with": self.chosen, "cursor": self.next}
        kept = {name: value for name, value in query.items() if value}
        return f"/datasets/{self.version.dataset_id}/repeats?{urlencode(kept)}"


@dataclass(frozen=True)
class RepeatsPage:
    """The pairs with the dataset's head."""

    template: ClassVar[str] = "datasets/repeats.html"
    head: Head
    repeats: Repeats


@router.get("/{dataset_id}/repeats", name="pages.datasets.repeats")
def index(
    visit: VisitDep,
    other: Annotated[str, Query(alias="with", max_length=80)] = "",
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Show a version's repeats, or those of its rows that another dataset has too."""
    head = visit.head("repeats")
    page = PageRequest(limit=_PAIRS, cursor=cursor)
    choices = choices_of(visit.session, head.version)
    try:
        service.require_checked(head.version)
        if other:
            repeats = _between(visit.session, visit.storage, head.version, other, choices, page)
        else:
            repeats = _within(visit.storage, head.version, choices, page)
    except AppError as error:
        repeats = _nothing(head.version, choices, other, error.detail)
    return visit.answer(RepeatsPage(head, repeats), repeats)


Choices = tuple[tuple[str, str], ...]


def choices_of(session: Session, version: DatasetVersion) -> Choices:
    """Return the other checked datasets, id and name, to compare a version with."""
    found = service.list_datasets(session, page=PageRequest(limit=_CHOICES))
    return tuple(
        (view.dataset.id, view.dataset.name)
        for view in found.items
        if view.dataset.id != version.dataset_id and view.latest.status in {"ready", "invalid"}
    )


def _within(
    storage: Storage, version: DatasetVersion, choices: Choices, page: PageRequest
) -> Repeats:
    found = repetition.repetitions(storage, version, page=page)
    pairs = tuple(_beside(version, version, item.pair) for item in found.items)
    by_code = version.by_code or {}
    return Repeats(
        version=version,
        other=None,
        choices=choices,
        chosen="",
        rows=found.rows,
        copies=by_code.get("duplicate_row", 0),
        near=by_code.get("near_duplicate", 0),
        of=found.of,
        groups=found.groups,
        complete=found.complete,
        pairs=pairs,
        next=found.next,
        failure="",
    )


def _between(  # two versions, and what the page shows of them
    session: Session,
    storage: Storage,
    version: DatasetVersion,
    other_id: str,
    choices: Choices,
    page: PageRequest,
) -> Repeats:
    other = service.get_version(session, dataset_id=other_id)
    service.require_checked(other)
    found = overlap.overlap(storage, version, other, page=page)
    return Repeats(
        version=version,
        other=other,
        choices=choices,
        chosen=other_id,
        rows=found.exact + found.near,
        copies=found.exact,
        near=found.near,
        of=found.of,
        groups=None,
        complete=found.complete,
        pairs=tuple(_beside(version, other, pair) for pair in found.items),
        next=found.next,
        failure="",
    )


def _nothing(version: DatasetVersion, choices: Choices, chosen: str, failure: str) -> Repeats:
    return Repeats(
        version=version,
        other=None,
        choices=choices,
        chosen=chosen,
        rows=0,
        copies=None,
        near=None,
        of=0,
        groups=None,
        complete=True,
        pairs=(),
        next=None,
        failure=failure,
    )


def _beside(version: DatasetVersion, other: DatasetVersion, pair: Pair) -> Beside:
    """Put the earlier or the other dataset's row left, and ours as it differs from it right."""
    theirs, ours = text_of(other, pair.other), text_of(version, pair.row)
    note = "a copy" if pair.exact else f"{percent(pair.similarity)} alike"
    return Beside(pair.other.line, pair.row.line, theirs, compared(theirs, ours), note)
