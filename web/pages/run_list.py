"""All runs: filtered, sorted, chosen for a comparison. Translation only."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from sqlalchemy.orm import Session
from starlette.responses import Response

from app.auth import users
from app.auth.models import User
from app.datasets import service as datasets
from app.dependencies import CurrentUser, PageParams, SessionDep
from app.evaluations import service as evaluations
from app.jobs.state import JobStatus
from app.kit.pagination import PageRequest
from app.runs import service
from app.runs.repository import Wanted
from app.runs.views import RunView
from web.htmx import HtmxDep, redirect
from web.pages.results import Result, result_of_run
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/runs")
_CHOICES = PageRequest(limit=200)
# What the filter offers, and the states behind each word.
STATES: dict[str, tuple[JobStatus, ...]] = {
    "running": (JobStatus.STARTING, JobStatus.RUNNING, JobStatus.STOPPING, JobStatus.PAUSING),
    "waiting": (JobStatus.QUEUED, JobStatus.PAUSED),
    "succeeded": (JobStatus.SUCCEEDED,),
    "failed": (JobStatus.FAILED,),
    "cancelled": (JobStatus.CANCELLED,),
}


@dataclass(frozen=True)
class Filters:
    """What the reader asked for, as it stands in the address; ``picked`` is chosen to compare."""

    status: str = ""
    owner: str = ""
    dataset: str = ""
    q: str = ""
    sort: str = "-created_at"
    picked: str = ""

    @property
    def is_any(self) -> bool:
        """Tell whether the list is filtered at all."""
        return bool(self.status or self.owner or self.dataset or self.q)

    def address(self, **changes: str) -> str:
        """Return the address of this list with ``changes``."""
        return _address(replace(self, **changes))

    def more(self, cursor: str) -> str:
        """Return the address of the next page of this list."""
        return f"{_address(self)}{'&' if '?' in _address(self) else '?'}cursor={cursor}"

    def turned(self, name: str, *, first: str) -> str:
        """Return the address sorted by ``name``, from the other end if it is sorted so already."""
        other = name.removeprefix("-") if name.startswith("-") else f"-{name}"
        return self.address(sort=other if self.sort == first else first)


def _address(filters: Filters) -> str:
    pairs = {"status": filters.status, "owner": filters.owner, "dataset": filters.dataset,
             "q": filters.q, "sort": "" if filters.sort == "-created_at" else filters.sort,
             "with": filters.picked}  # fmt: skip
    query = urlencode({key: value for key, value in pairs.items() if value})
    return f"/runs?{query}" if query else "/runs"


@dataclass(frozen=True)
class Row:
    """A run in the list."""

    view: RunView
    result: Result | None
    facts: tuple[str, ...]


@dataclass(frozen=True)
class RunsTable:
    """The list, page by page."""

    template: ClassVar[str] = "runs/_table.html"
    rows: tuple[Row, ...]
    total: int
    next: str | None
    filters: Filters
    is_live: bool


@dataclass(frozen=True)
class RunsPage:
    """All runs, with what they can be filtered by."""

    template: ClassVar[str] = "runs/index.html"
    table: RunsTable
    owners: tuple[User, ...]
    datasets: tuple[tuple[str, str], ...]
    states: tuple[str, ...]


def read_filters(
    status: str = "",
    owner: str = "",
    dataset: str = "",
    q: str = "",
    sort: str = "-created_at",
    picked: Annotated[str, Query(alias="with")] = "",
) -> Filters:
    """Return the filters of the address; a state that is unknown filters nothing."""
    known = status if status in STATES else ""
    return Filters(known, owner[:100], dataset[:100], q.strip()[:200], sort, picked[:100])


@router.get("", name="pages.runs")
def index(  # FastAPI passes them by name
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    htmx: HtmxDep,
    page: PageParams,
    filters: Annotated[Filters, Depends(read_filters)],
) -> Response:
    """List runs."""
    del actor
    table = _table(session, filters, page)
    if htmx.wants_fragment:
        return render(table, shell)
    owners = tuple(users.list_users(session, page=_CHOICES).items)
    found = datasets.list_datasets(session, page=_CHOICES).items
    choices = tuple((view.dataset.id, view.dataset.name) for view in found)
    return render(RunsPage(table, owners, choices, tuple(STATES)), shell)


def _table(session: Session, filters: Filters, page: PageRequest) -> RunsTable:
    wanted = Wanted(
        statuses=STATES.get(filters.status, ()),
        owner_id=filters.owner or None,
        dataset_id=filters.dataset or None,
        q=filters.q or None,
    )
    found = service.list_runs(session, wanted=wanted, sort=filters.sort, page=page)
    ids = [view.run.id for view in found.items]
    reports = {one.run_id: one.report for one in evaluations.of_runs(session, run_ids=ids)}
    rows = tuple(_row(view, reports.get(view.run.id)) for view in found.items)
    is_live = any(not view.status.is_final for view in found.items)
    return RunsTable(rows, found.total, found.next, filters, is_live)


def _row(view: RunView, report: dict[str, Any] | None) -> Row:
    result = None
    if view.status is JobStatus.SUCCEEDED:
        result = result_of_run(view.run.summary, report)
    elif view.failure:
        result = Result(str(view.failure.get("title", "Failed")), "", is_bad=True)
    config = view.run.spec.get("config", {})
    method = "QLoRA" if config.get("quantization") == "nf4" else "LoRA"
    facts = (
        f"{view.dataset.name} v{view.version.number}",
        view.base_model.name.rsplit("/", 1)[-1],
        f"{method} r{config.get('adapter', {}).get('rank')}",
        str(view.run.spec.get("preset", "")),
    )
    return Row(view, result, tuple(fact for fact in facts if fact))


@router.get("/compare", name="pages.runs.compare")
def compare(actor: CurrentUser, runs: Annotated[list[str], Query()] = []) -> Response:  # noqa: B006
    """Turn the chosen check boxes into the address of a comparison."""
    del actor
    return redirect("/compare?" + urlencode({"runs": ",".join(runs)}, safe=","))
