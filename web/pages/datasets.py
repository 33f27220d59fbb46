"""Pages of datasets: the list with its upload, one dataset with problems, statistics and rows.

Translation only: what may be done lives in ``app.datasets``; looks live in the templates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from app.auth import users
from app.auth.models import User
from app.datasets import service
from app.datasets.arriving import uploads
from app.datasets.arriving.arrivals import Arrival
from app.datasets.arriving.uploads import OpenUpload
from app.datasets.service import DatasetView
from app.dependencies import (
    CurrentUser,
    Member,
    OpenSessionDep,
    PageParams,
    SessionDep,
    SettingsDep,
    UploadActor,
)
from app.errors import AppError
from app.kit.storage import get_storage
from web.htmx import HtmxDep, Toast, hx_redirect, redirect, toast
from web.pages.dataset_head import Head, head_of
from web.pages.dataset_view import (
    Lines,
    Problems,
    RunRow,
    Statistics,
    Summary,
    lines_of,
    problems_of,
    runs_of,
    statistics_of,
    summary_of,
)
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/datasets")


@dataclass(frozen=True)
class Row:
    """A dataset in the list, as its latest version shows it."""

    view: DatasetView
    owner: User | None


@dataclass(frozen=True)
class DatasetsTable:
    """The list, newest first; it refreshes itself while something is being checked."""

    template: ClassVar[str] = "datasets/_table.html"
    rows: tuple[Row, ...]
    total: int
    next: str | None
    q: str

    @property
    def checking(self) -> bool:
        """Tell whether a check is under way."""
        return any(row.view.latest.status == "checking" for row in self.rows)


@dataclass(frozen=True)
class Upload:
    """The drop zone: for a new dataset, or for a new version of one."""

    template: ClassVar[str] = "datasets/_upload.html"
    has_imports: bool
    dataset_id: str = ""
    unfinished: Sequence[OpenUpload] = ()


@dataclass(frozen=True)
class DatasetsPage:
    """All datasets."""

    template: ClassVar[str] = "datasets/index.html"
    table: DatasetsTable
    upload: Upload


@dataclass(frozen=True)
class DatasetPage:
    """One version of a dataset, with everything known of it."""

    template: ClassVar[str] = "datasets/detail.html"
    head: Head
    summary: Summary
    problems: Problems
    statistics: Statistics
    runs: tuple[RunRow, ...]
    upload: Upload


def _table(session: Session, page: PageParams, q: str) -> DatasetsTable:
    found = service.list_datasets(session, page=page, q=q.strip() or None)
    people = users.by_id(session, {view.dataset.owner_id for view in found.items})
    rows = tuple(Row(view, people.get(view.dataset.owner_id)) for view in found.items)
    return DatasetsTable(rows=rows, total=found.total, next=found.next, q=q.strip())


@router.get("", name="pages.datasets")
def index(  # each is a query parameter or a dependency
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    settings: SettingsDep,
    page: PageParams,
    q: str = "",
) -> Response:
    """List datasets, with the upload above."""
    unfinished = uploads.unfinished(session, actor=actor, settings=settings)
    upload = Upload(settings.import_folder is not None, unfinished=unfinished)
    return render(DatasetsPage(_table(session, page, q), upload), shell)


@router.get("/table", name="pages.datasets.table")
def table(
    session: SessionDep, actor: CurrentUser, shell: ShellDep, page: PageParams, q: str = ""
) -> Response:
    """Return the list alone."""
    del actor
    return render(_table(session, page, q), shell)


@router.post("", name="pages.datasets.create")
async def create(
    request: Request,
    actor: UploadActor,
    settings: SettingsDep,
    open_session: OpenSessionDep,
    htmx: HtmxDep,
) -> Response:
    """Take an upload and open the dataset's page, where its check is seen."""
    arrival = Arrival(open_session, actor, settings)
    try:
        dataset_id = await arrival.take(request, lambda view: view.dataset.id)
    except AppError as error:
        refused = Toast(error.detail, "bad")
        if not htmx.is_htmx:
            return redirect("/datasets", refused)
        response = Response(status_code=error.status, headers={"HX-Reswap": "none"})
        return toast(response, refused)
    return await run_in_threadpool(hx_redirect, f"/datasets/{dataset_id}", htmx)


VersionNumber = Annotated[int | None, Query(ge=1)]


@router.get("/{dataset_id}", name="pages.datasets.detail")
def detail(  # each is a query parameter or a dependency
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    settings: SettingsDep,
    version: VersionNumber = None,
    code: str | None = None,
) -> Response:
    """Show one version of a dataset."""
    head = head_of(session, actor, dataset_id=dataset_id, number=version, section="overview")
    of = head.version
    page = DatasetPage(
        head=head,
        summary=summary_of(session, of),
        problems=problems_of(session, of, opened=code),
        statistics=statistics_of(of),
        runs=runs_of(session, dataset_id),
        upload=Upload(settings.import_folder is not None, dataset_id),
    )
    return render(page, shell)


@router.get("/{dataset_id}/summary", name="pages.datasets.summary")
def summary(
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    version: VersionNumber = None,
) -> Response:
    """Return the key figures; when the check has ended, the whole page is loaded again."""
    del actor
    of = service.get_version(session, dataset_id=dataset_id, number=version)
    response = render(summary_of(session, of), shell)
    if of.status != "checking":
        response.headers["HX-Refresh"] = "true"
    return response


@router.get("/{dataset_id}/lines", name="pages.datasets.lines")
def lines(  # each is a query parameter or a dependency
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    page: PageParams,
    code: str,
    version: VersionNumber = None,
) -> Response:
    """Return more lines of one kind of problem."""
    del actor
    of = service.get_version(session, dataset_id=dataset_id, number=version)
    found: Lines = lines_of(session, of, code=code, page=page)
    return render(found, shell)


@router.post("/{dataset_id}/delete", name="pages.datasets.delete")
def delete(
    dataset_id: str, session: SessionDep, actor: Member, settings: SettingsDep, htmx: HtmxDep
) -> Response:
    """Delete a dataset, or say which runs need it."""
    storage = get_storage(settings)
    try:
        service.delete(session, actor=actor, storage=storage, dataset_id=dataset_id)
    except AppError as error:
        return redirect(f"/datasets/{dataset_id}", Toast(error.detail, "bad"))
    return hx_redirect("/datasets", htmx, Toast("Deleted."))
