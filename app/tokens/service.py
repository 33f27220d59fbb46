"""What may be asked of a version and a base model: a token report, and the tokens of a row.

Knows no HTTP. Both are the trainer's own doing, in child processes; see ``children``. The report is
a job of the light lane, made by ``reporting``; this module queues it and says how it stands.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.auth.roles import Actor, require_write
from app.basemodels import service as basemodels
from app.basemodels.models import BaseModelRow
from app.datasets import service as datasets
from app.datasets.formats.preference import PREFERENCE
from app.datasets.models import DatasetVersion, TokenReport
from app.datasets.reading import Rows
from app.errors import Conflict, Invalid, NotFound
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.state import JobKind
from app.kit.clock import utc_now
from app.kit.ids import new_id
from app.kit.storage import get_storage, model_folder
from app.queue import Lane
from app.settings import Settings
from app.tokens import children, repository


@dataclass(frozen=True)
class Pair:
    """A checked version and a model that can turn its rows into tokens."""

    version: DatasetVersion
    model: BaseModelRow


@dataclass(frozen=True)
class ReportView:
    """How a report stands; ``job`` makes it, if it is not made."""

    report: TokenReport
    version: int
    job: Job | None

    @property
    def status(self) -> str:
        """Return running, ready or failed."""
        if self.report.result is not None:
            return "ready"
        return "running" if self.report.failure is None else "failed"


def pair(session: Session, *, dataset_id: str, number: int | None, base_model: str) -> Pair:
    """Return what is asked about; raise where no token can be made of it, with the cure."""
    version = datasets.get_version(session, dataset_id=dataset_id, number=number)
    datasets.require_checked(version)
    datasets.require_good_rows(version)
    if version.format == PREFERENCE.name:
        raise Conflict(
            "Preference pairs are not one conversation, so there are no tokens to show yet.",
            code="not_one_conversation",
        )
    try:
        model = basemodels.get(session, model_id=base_model)
    except NotFound as error:
        raise Invalid.field("base_model", error.detail) from error
    if model.status != "ready":
        raise Conflict(f"{model.name} is not ready yet.", code="base_model_not_ready")
    return Pair(version, model)


def ask(session: Session, *, actor: Actor, asked: Pair, max_length: int) -> ReportView:
    """Return the report as it stands; queue it unless it is made or on its way.

    One that failed is tried again, and so is one from before the version was checked anew or the
    model was registered anew.
    """
    require_write(actor)
    version, model = asked.version, asked.model
    found = repository.find(
        session, version_id=version.id, base_model_id=model.id, max_length=max_length, lock=True
    )
    if found is None:
        found = TokenReport(
            id=new_id("tok"),
            version_id=version.id,
            base_model_id=model.id,
            max_length=max_length,
            created_by=actor.id,
        )
        session.add(found)
        session.flush()
    if _is_current(found, asked):
        return ReportView(found, version.number, None)
    job = repository.unfinished_job(session, found.id)
    if job is None:
        found.result = found.failure = found.finished_at = None
        job = jobs.submit(
            session,
            kind=JobKind.TOKEN_REPORT,
            lane=Lane.LIGHT,
            title=f"Count tokens for {model.name}"[:120],
            subject_id=found.id,
            owner_id=actor.id,
        )
    session.flush()
    return ReportView(found, version.number, job)


def _is_current(report: TokenReport, asked: Pair) -> bool:
    if report.result is None or report.finished_at is None:
        return False
    changed = [asked.version.checked_at, asked.model.created_at]
    return all(moment is None or moment <= report.finished_at for moment in changed)


def known(session: Session, *, asked: Pair, max_length: int) -> ReportView | None:
    """Return a report that was asked for already, or None; nothing is queued."""
    found = repository.find(
        session, version_id=asked.version.id, base_model_id=asked.model.id, max_length=max_length
    )
    if found is None:
        return None
    job = repository.unfinished_job(session, found.id)
    is_shown = job is not None or found.failure is not None or _is_current(found, asked)
    return ReportView(found, asked.version.number, job) if is_shown else None


def look(session: Session, *, report_id: str) -> ReportView:
    """Return how a report stands."""
    report = session.get(TokenReport, report_id)
    if report is None:
        raise NotFound("There is no such token report. Its dataset or model may be gone.")
    version = session.get_one(DatasetVersion, report.version_id)
    return ReportView(report, version.number, repository.unfinished_job(session, report.id))


def require_made(view: ReportView) -> None:
    """Raise ``Conflict`` with the reason if the report could not be made."""
    if view.status == "failed":
        raise Conflict(str(view.report.failure), code="token_report_failed")


def finish(report: TokenReport, result: dict[str, Any]) -> None:
    """Write down a report that was made."""
    report.result, report.failure, report.finished_at = result, None, utc_now()


def preview(
    settings: Settings, asked: Pair, *, line: int, max_length: int | None
) -> dict[str, Any]:
    """Return the tokens of the row on ``line``, as they are trained."""
    storage = get_storage(settings)
    with Rows.open(storage, asked.version) as rows:
        found = rows.from_line(line, 1)
        if not found or found[0].line != line:
            raise NotFound(f"There is no row on line {line}.")
        if not found[0].is_good:
            raise Conflict(
                f"Line {line} has errors, so it is not trained. See its problems.",
                code="row_has_errors",
            )
        data = rows.data(found[0])
    request = {
        "base_model_folder": str(model_folder(settings, asked.model.folder)),
        "cache_folder": str(settings.data_folder / "tokens"),
        "row": data.decode("utf-8", "replace"),
        "line": line,
        "format": asked.version.format or "messages",
        "mapping": asked.version.mapping,
        "max_length": max_length,
    }
    return children.preview(request)
