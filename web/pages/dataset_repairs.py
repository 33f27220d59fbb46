"""Repairs of a version: what fits, what it would change row by row, and saving it as a version.

Translation only; the repairs are ``app.datasets.repairs``, their differences ``previewing``.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends, Query, Response
from starlette.datastructures import FormData

from app.datasets import making, previewing
from app.datasets.models import DatasetVersion
from app.datasets.previewing import Offer, Preview
from app.dependencies import Member, SessionDep, SettingsDep
from app.errors import AppError
from app.kit.storage import get_storage
from web.forms import read_form
from web.htmx import HtmxDep, Toast, hx_redirect, redirect
from web.pages.dataset_head import Head, VisitDep

router = APIRouter(prefix="/datasets")
_DIFFERENCES = 5  # shown of each repair


@dataclass(frozen=True)
class Repairs:
    """What can be repaired; of what is chosen, the difference."""

    template: ClassVar[str] = "datasets/_repairs.html"
    version: DatasetVersion
    next_number: int
    offers: tuple[Offer, ...]
    chosen: tuple[str, ...]
    preview: Preview | None
    failure: str
    may_change: bool

    @property
    def parts(self) -> bool:
        """Tell whether only some of the rows were looked at."""
        return self.preview is not None and not self.preview.is_complete


@dataclass(frozen=True)
class RepairsPage:
    """The repairs with the dataset's head."""

    template: ClassVar[str] = "datasets/repairs.html"
    head: Head
    repairs: Repairs


@router.get("/{dataset_id}/repairs", name="pages.datasets.repairs")
def index(
    visit: VisitDep,
    repair: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """Show which repairs fit, and what those chosen would change."""
    head = visit.head("overview")
    storage, of = visit.storage, head.version
    offers: tuple[Offer, ...] = ()
    found, failure = None, ""
    try:
        if of.status in {"ready", "invalid"}:
            offers = tuple(previewing.offers(visit.session, storage, of))
        if repair:
            names = making.checked_names(repair)
            found = previewing.preview(visit.session, storage, of, names=names, limit=_DIFFERENCES)
    except AppError as error:
        failure = error.detail
    shown = Repairs(
        version=of,
        next_number=head.dataset.latest.number + 1,
        offers=offers,
        chosen=tuple(repair or ()),
        preview=found,
        failure=failure,
        may_change=head.may_change,
    )
    return visit.answer(RepairsPage(head, shown), shown)


@router.post("/{dataset_id}/repairs", name="pages.datasets.repairs.create")
def create(
    dataset_id: str,
    session: SessionDep,
    actor: Member,
    settings: SettingsDep,
    htmx: HtmxDep,
    posted: Annotated[FormData, Depends(read_form)],
) -> Response:
    """Save the repaired rows as a new version, and see it being made and checked."""
    number = str(posted.get("version", ""))
    try:
        making.request(
            session,
            actor=actor,
            storage=get_storage(settings),
            settings=settings,
            dataset_id=dataset_id,
            number=int(number) if number.isdigit() else None,
            names=[str(name) for name in posted.getlist("repair")],
        )
    except AppError as error:
        query = f"?version={number}" if number.isdigit() else ""
        return redirect(f"/datasets/{dataset_id}/repairs{query}", Toast(error.detail, "bad"))
    text = "The repaired version is being made and checked."
    return hx_redirect(f"/datasets/{dataset_id}", htmx, Toast(text))
