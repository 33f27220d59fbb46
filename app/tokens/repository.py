"""SQL of token reports. Knows no rule."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.datasets.models import TokenReport
from app.jobs.models import Job
from app.jobs.state import FINAL


def find(
    session: Session, *, version_id: str, base_model_id: str, max_length: int, lock: bool = False
) -> TokenReport | None:
    """Return the report of a version for a model and a length; with ``lock`` it is ours."""
    statement = select(TokenReport).where(
        TokenReport.version_id == version_id,
        TokenReport.base_model_id == base_model_id,
        TokenReport.max_length == max_length,
    )
    return session.scalar(statement.with_for_update() if lock else statement)


def unfinished_job(session: Session, report_id: str) -> Job | None:
    """Return the job that makes a report, if one is queued or at work."""
    statement = select(Job).where(Job.subject_id == report_id, Job.status.not_in(FINAL))
    return session.scalar(statement.limit(1))
