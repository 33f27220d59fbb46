"""Curves: points from a job's events, and series thin enough to draw. Knows no page."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from app.jobs.events import EventType, JobEvent
from app.kit.schemas import iso
from app.metrics import repository
from app.metrics.downsampling import downsample

DEFAULT_POINTS = 1000
MAX_POINTS = 10_000


def store(session: Session, *, job_id: str, events: Sequence[JobEvent]) -> None:
    """Take the points out of stored events; going back to a checkpoint voids what came after."""
    voids = [place for place, event in enumerate(events) if voided_after(event) is not None]
    start = 0
    for place in voids:
        _store_points(session, job_id, events[start:place])
        repository.delete_after(session, job_id, voided_after(events[place]) or 0)
        start = place
    _store_points(session, job_id, events[start:])


def voided_after(event: JobEvent) -> int | None:
    """Return the step after which points are void by this event, or None if none are."""
    if event.type is not EventType.PHASE or event.values.get("phase") != "resumed":
        return None
    step = event.step if event.step is not None else event.values.get("step")
    return int(step) if step is not None else None


def _store_points(session: Session, job_id: str, events: Iterable[JobEvent]) -> None:
    points: dict[tuple[str, int], dict[str, Any]] = {}
    for event in events:
        if event.type is not EventType.METRICS or event.step is None:
            continue
        for name, value in event.values.items():
            points[name, event.step] = {
                "job_id": job_id,
                "name": name,
                "step": event.step,
                "value": value if isinstance(value, int | float) else None,
                "at": event.at,
            }
    if points:
        repository.upsert(session, list(points.values()))


def series(
    session: Session,
    *,
    job_id: str,
    names: Sequence[str] | None = None,
    points: int = DEFAULT_POINTS,
    from_step: int | None = None,
    to_step: int | None = None,
) -> dict[str, Any]:
    """Return API.md's ``{"series", "total_points"}``: each curve with at most ``points`` points."""
    rows = repository.points(session, job_id, names=names, from_step=from_step, to_step=to_step)
    found: dict[str, dict[str, list[Any]]] = {}
    totals: dict[str, int] = {}
    for name, group in groupby(rows, key=_name):
        members = list(group)
        steps, values = [row[1] for row in members], [row[2] for row in members]
        curve = downsample(steps, values, min(points, MAX_POINTS))
        totals[name] = len(members)
        moments = {row[1]: row[3] for row in members}
        found[name] = {
            "step": curve.step,
            "value": curve.value,
            "min": curve.low,
            "max": curve.high,
            "at": [iso(moments[step]) for step in curve.step],
        }
    return {"series": found, "total_points": totals}


def _name(row: Row[str, int, float | None, datetime]) -> str:
    return row[0]


def points_of(
    session: Session, *, job_ids: Sequence[str], name: str
) -> dict[str, list[tuple[int, float | None]]]:
    """Return a metric's (step, value) of several jobs, in the order of steps; NaN is None."""
    found: dict[str, list[tuple[int, float | None]]] = {}
    for job_id, step, value in repository.points_of(session, job_ids, name):
        found.setdefault(job_id, []).append((step, value))
    return found


def last_values(session: Session, *, job_id: str) -> dict[str, float | None]:
    """Return each metric's last value."""
    return repository.last_values(session, job_id)
