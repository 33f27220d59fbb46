"""SQL of sweeps. Knows no rule."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.auth.models import User
from app.jobs.models import Job
from app.runs.models import Run
from app.sweeps.models import Sweep, SweepRun


@dataclass(frozen=True)
class Member:
    """A run of a sweep with its job."""

    entry: SweepRun
    run: Run
    job: Job


def one(session: Session, sweep_id: str) -> tuple[Sweep, User] | None:
    """Return a sweep and its owner."""
    statement = select(Sweep, User).join(User, User.id == Sweep.owner_id)
    found = session.execute(statement.where(Sweep.id == sweep_id)).one_or_none()
    return (found[0], found[1]) if found else None


def listed(session: Session, *, before: str | None, limit: int) -> list[tuple[Sweep, User]]:
    """Return sweeps, newest first, from behind the one with the id ``before``."""
    statement = select(Sweep, User).join(User, User.id == Sweep.owner_id)
    if before is not None:
        statement = statement.where(Sweep.id < before)
    rows = session.execute(statement.order_by(Sweep.id.desc()).limit(limit))
    return [(row[0], row[1]) for row in rows]


def count(session: Session) -> int:
    """Return how many sweeps there are."""
    return session.scalar(select(func.count()).select_from(Sweep)) or 0


def members(session: Session, sweep_ids: Sequence[str]) -> list[Member]:
    """Return the runs of sweeps, in their order."""
    statement = (
        select(SweepRun, Run, Job)
        .join(Run, Run.id == SweepRun.run_id)
        .join(Job, Job.id == Run.job_id)
        .where(SweepRun.sweep_id.in_(sweep_ids))
    )
    return [Member(*row) for row in session.execute(statement.order_by(SweepRun.place))]


def of_job(session: Session, job_id: str) -> tuple[SweepRun, Sweep] | None:
    """Return the sweep's entry of a job's run, and the sweep, locked: runs are judged in turn."""
    statement = (
        select(SweepRun, Sweep)
        .join(Sweep, Sweep.id == SweepRun.sweep_id)
        .join(Run, Run.id == SweepRun.run_id)
        .where(Run.job_id == job_id)
        .with_for_update(of=Sweep)
    )
    found = session.execute(statement).one_or_none()
    return (found[0], found[1]) if found else None
