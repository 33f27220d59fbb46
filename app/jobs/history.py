"""What a job's stored events tell of its past: attempts, phases, alerts. Reads only.

Knows no feature and no page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.jobs.events import EventType
from app.jobs.models import JobEventRow
from app.jobs.state import FINAL, JobStatus

_TOLD = (EventType.STATE, EventType.PHASE, EventType.ALERT)
_LIMIT = 2000


@dataclass(frozen=True)
class Phase:
    """A part of an attempt; ``ended_at`` is None while it lasts."""

    name: str
    began_at: datetime
    ended_at: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, or None while it lasts."""
        return (self.ended_at - self.began_at).total_seconds() if self.ended_at else None


@dataclass(frozen=True)
class Attempt:
    """One execution: its state so far, and why it ended if that was said."""

    number: int
    began_at: datetime
    status: str
    ended_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class Alert:
    """What a user should know although the job goes on; ``step`` is where it was told."""

    code: str
    text: str
    at: datetime
    step: int | None = None


@dataclass(frozen=True)
class History:
    """The past of a job: all attempts; of the last one its phases, alerts and what it ran with.

    ``ran_with`` is groups of names and values; empty where nothing was told.
    """

    attempts: tuple[Attempt, ...]
    phases: tuple[Phase, ...]
    alerts: tuple[Alert, ...]
    ran_with: Mapping[str, Mapping[str, str]]


def read(session: Session, *, job_id: str) -> History:
    """Return what the events of a job tell."""
    statement = select(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.type.in_(_TOLD))
    statement = statement.where(JobEventRow.values["within"].is_(None))  # many, and no phases
    newest = statement.order_by(JobEventRow.seq.desc()).limit(_LIMIT)
    rows = list(reversed(session.scalars(newest).all()))
    attempts = _attempts([row for row in rows if row.type == EventType.STATE])
    last = attempts[-1].number if attempts else 0
    of_last = [row for row in rows if row.attempt == last]
    return History(
        attempts=attempts,
        phases=_phases(of_last),
        alerts=_alerts([row for row in of_last if row.type == EventType.ALERT]),
        ran_with=next((row.values["ran_with"] for row in of_last if "ran_with" in row.values), {}),
    )


def _attempts(states: Sequence[JobEventRow]) -> tuple[Attempt, ...]:
    found: dict[int, Attempt] = {}
    for row in states:
        status, reason = str(row.values.get("status", "")), str(row.values.get("reason", ""))
        if status == JobStatus.STARTING:
            found[row.attempt] = Attempt(row.attempt, row.at, status)
        elif row.attempt in found and found[row.attempt].ended_at is None:
            over = status in {*FINAL, JobStatus.QUEUED, JobStatus.PAUSED}
            found[row.attempt] = replace(
                found[row.attempt],
                status="interrupted" if status == JobStatus.QUEUED else status,
                ended_at=row.at if over else None,
                reason=reason,
            )
    return tuple(found.values())


def _phases(rows: Sequence[JobEventRow]) -> tuple[Phase, ...]:
    found: list[Phase] = []
    for row in rows:
        over = row.type == EventType.STATE and _is_over(row.values)
        name = row.values.get("phase") if row.type == EventType.PHASE else None
        is_same = bool(found) and found[-1].name == name
        if not (over or (name and name != "resumed" and not is_same)):
            continue
        if found and found[-1].ended_at is None:
            found[-1] = replace(found[-1], ended_at=row.at)
        if name:
            found.append(Phase(str(name), row.at))
    return tuple(found)


def _is_over(values: dict[str, Any]) -> bool:
    return values.get("status") in {*FINAL, JobStatus.QUEUED, JobStatus.PAUSED}


def _alerts(rows: Sequence[JobEventRow]) -> tuple[Alert, ...]:
    """Return the last alert of each code, oldest first."""
    last = {
        str(row.values.get("code", "")): Alert(
            str(row.values.get("code", "")), str(row.values.get("text", "")), row.at, row.step
        )
        for row in rows
    }
    return tuple(sorted(last.values(), key=lambda alert: alert.at))
