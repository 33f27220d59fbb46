"""Jump to anything: the list behind Ctrl K. Translation only."""

from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from app.basemodels.models import BaseModelRow
from app.datasets import service as datasets
from app.dependencies import CurrentUser, SessionDep
from app.kit.pagination import PageRequest
from app.runs import service as runs
from app.runs.repository import Wanted
from web.htmx import HtmxDep
from web.rendering import render
from web.shell import ShellDep

router = APIRouter()
_EACH = PageRequest(limit=6)


@dataclass(frozen=True)
class Hit:
    """One place to go."""

    text: str
    href: str
    icon: str
    note: str = ""


@dataclass(frozen=True)
class Palette:
    """Places by kind, for what was typed so far."""

    template: ClassVar[str] = "_palette_hits.html"
    groups: tuple[tuple[str, tuple[Hit, ...]], ...]
    q: str


@dataclass(frozen=True)
class PalettePage:
    """The same list as a page, for browsers without scripts."""

    template: ClassVar[str] = "palette.html"
    palette: Palette


PAGES = (
    Hit("Queue", "/", "stack-2"),
    Hit("New run", "/runs/new", "plus", "N"),
    Hit("Datasets", "/datasets", "database"),
    Hit("Runs", "/runs", "chart-line"),
    Hit("Sweeps", "/sweeps", "target"),
    Hit("Compare", "/compare", "arrows-diff"),
    Hit("Models", "/models", "box"),
    Hit("Team", "/team", "users"),
    Hit("Account and API tokens", "/account", "key"),
    Hit("API documentation", "/api/docs", "terminal-2"),
)


@router.get("/palette", name="pages.palette")
def palette(
    session: SessionDep, actor: CurrentUser, shell: ShellDep, htmx: HtmxDep, q: str = ""
) -> Response:
    """Find pages, runs, datasets and models by their name."""
    del actor
    wanted = q.strip()[:200]
    groups = (
        ("Runs", _runs(session, wanted)),
        ("Datasets", _datasets(session, wanted)),
        ("Models", _models(session, wanted) if wanted else ()),
        ("Pages", tuple(hit for hit in PAGES if wanted.lower() in hit.text.lower())),
    )
    found = Palette(tuple((name, hits) for name, hits in groups if hits), wanted)
    return render(found if htmx.wants_fragment else PalettePage(found), shell)


def _runs(session: Session, q: str) -> tuple[Hit, ...]:
    found = runs.list_runs(session, wanted=Wanted(q=q or None), page=_EACH).items
    return tuple(
        Hit(
            view.run.name,
            f"/runs/{view.run.id}",
            "chart-line",
            f"#{view.job.number}, {view.status}",
        )
        for view in found
    )


def _datasets(session: Session, q: str) -> tuple[Hit, ...]:
    found = datasets.list_datasets(session, page=_EACH, q=q or None).items
    return tuple(
        Hit(view.dataset.name, f"/datasets/{view.dataset.id}", "database", f"v{view.latest.number}")
        for view in found
    )


def _models(session: Session, q: str) -> tuple[Hit, ...]:
    statement = select(BaseModelRow).where(
        BaseModelRow.name.icontains(q, autoescape=True), BaseModelRow.deleted_at.is_(None)
    )
    rows = session.scalars(statement.order_by(BaseModelRow.name).limit(_EACH.limit))
    return tuple(Hit(row.name, f"/models#{row.id}", "box", row.status) for row in rows)
