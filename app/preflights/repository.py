"""SQL of preflights. Knows no rule."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.jobs.events import EventType
from app.jobs.models import JobEventRow
from app.preflights.models import Preflight
from app.runs.models import Run


def of_run(session: Session, run_id: str) -> Preflight | None:
    """Return the newest preflight of a run."""
    statement = select(Preflight).where(Preflight.run_id == run_id)
    return session.scalar(statement.order_by(Preflight.created_at.desc()).limit(1))


def run_of_job(session: Session, job_id: str) -> Run | None:
    """Return the run whose job this is, locked."""
    return session.scalar(select(Run).where(Run.job_id == job_id).with_for_update())


def last_trial(session: Session, job_id: str) -> str | None:
    """Return what a job said last of what it tries."""
    statement = (
        select(JobEventRow.values["detail"].as_string())
        .where(JobEventRow.job_id == job_id, JobEventRow.type == EventType.PHASE.value)
        .order_by(JobEventRow.seq.desc())
        .limit(1)
    )
    return session.scalar(statement)
