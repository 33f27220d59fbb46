"""Two versions of a dataset beside each other: rows added, removed and changed.

Translation only; what counts as changed stands in ``app.datasets.alike.difference``.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from app.datasets import service
from app.datasets.alike import difference
from app.datasets.alike.difference import Change
from app.datasets.models import DatasetVersion
from app.errors import AppError
from app.kit.pagination import PageRequest
from app.kit.storage import Storage
from web.pages.dataset_head import Head, VisitDep
from web.pages.dataset_text import Beside, text_of
from web.words import compared

router = APIRouter(prefix="/datasets")
_ROWS = 20


@dataclass(frozen=True)
class Versions:
    """What changed from one version to another."""

    template: ClassVar[str] = "datasets/_versions.html"
    dataset_id: str
    numbers: tuple[int, ...]
    before: int | None
    after: int
    kind: str
    found: difference.Difference | None
    rows: tuple[Beside, ...]
    failure: str

    def address(self, *, kind: str = "", cursor: str | None = None) -> str:
        """Return the address of a kind of change, or of the next rows."""
        query = {"from": self.before, "to": self.after, "kind": kind, "cursor": cursor}
        kept = {name: value for name, value in query.items() if value}
        return f"/datasets/{self.dataset_id}/versions?{urlencode(kept)}"


@dataclass(frozen=True)
class VersionsPage:
    """The difference with the dataset's head."""

    template: ClassVar[str] = "datasets/versions.html"
    head: Head
    versions: Versions


@router.get("/{dataset_id}/versions", name="pages.datasets.versions")
def index(
    visit: VisitDep,
    before: Annotated[int | None, Query(alias="from", ge=1)] = None,
    to: Annotated[int | None, Query(ge=1)] = None,
    kind: difference.Kind | None = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Show what changed; by default since the version that this one was made from."""
    head = visit.head("versions", number=to)
    before = before or _parent(head)
    page = PageRequest(limit=_ROWS, cursor=cursor)
    found, rows, failure = None, (), ""
    if before:
        try:
            found, rows = _compared(visit.session, visit.storage, head.version, before, kind, page)
        except AppError as error:
            failure = error.detail
    versions = Versions(
        dataset_id=visit.dataset_id,
        numbers=tuple(one.number for one in head.dataset.versions),
        before=before,
        after=head.version.number,
        kind=kind or "",
        found=found,
        rows=rows,
        failure=failure,
    )
    return visit.answer(VersionsPage(head, versions), versions)


def _parent(head: Head) -> int | None:
    """Return the version that this one was made from, or the one before it."""
    numbers = {one.id: one.number for one in head.dataset.versions}
    made_from = numbers.get(head.version.parent_id or "")
    return made_from or max((n for n in numbers.values() if n < head.version.number), default=None)


def _compared(  # two versions, and which of their changes are shown
    session: Session,
    storage: Storage,
    after: DatasetVersion,
    number: int,
    kind: difference.Kind | None,
    page: PageRequest,
) -> tuple[difference.Difference, tuple[Beside, ...]]:
    before = service.get_version(session, dataset_id=after.dataset_id, number=number)
    for one in (before, after):
        service.require_checked(one)
    found = difference.difference(storage, before, after, kind=kind, page=page)
    return found, tuple(_beside(before, after, item) for item in found.items)


def _beside(before: DatasetVersion, after: DatasetVersion, change: Change) -> Beside:
    old = text_of(before, change.before) if change.before else ""
    new = text_of(after, change.after) if change.after else ""
    return Beside(
        line=change.before.line if change.before else None,
        other_line=change.after.line if change.after else None,
        text=old,
        pieces=compared(old, new) if change.after else (),
        note=change.kind,
    )
