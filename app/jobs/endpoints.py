"""HTTP of jobs: list, look, events, stop; and of devices with what each does.

Devices are told here because a device knows only the id of its job. Knows no rule.
"""

from typing import Annotated

from fastapi import APIRouter, Query, status
from sqlalchemy.orm import Session

from app.auth.roles import require_owner
from app.auth.service import audit
from app.dependencies import CurrentUser, Member, PageParams, SessionDep
from app.devices import service as devices
from app.devices.models import Device
from app.jobs import service
from app.jobs.models import Job
from app.jobs.schemas import (
    DeviceJob,
    DeviceList,
    DeviceOut,
    EventList,
    FailureOut,
    JobOut,
    JobPage,
    StopRequest,
)
from app.jobs.state import JobKind, JobStatus

router = APIRouter(tags=["jobs"])


def job_out(session: Session, job: Job, *, reason: str | None) -> JobOut:
    """Return the job as the API shows it; ``reason`` says why it waits, if it does."""
    return JobOut(
        id=job.id,
        number=job.number,
        kind=JobKind(job.kind),
        lane=job.lane,
        title=job.title,
        subject=job.subject_id,
        owner=job.owner_id,
        priority=job.priority,
        status=JobStatus(job.status),
        attempt=job.attempt,
        phase=job.phase,
        step=job.step,
        total_steps=job.total_steps,
        progress=job.progress,
        eta=job.seconds_left,
        predicted_start=service.predicted_start(session, job),
        predicted_finish=service.predicted_finish(job),
        waiting_reason=reason,
        failure=FailureOut.model_validate(job.failure) if job.failure else None,
        worker=job.worker,
        created_at=job.created_at,
        queued_at=job.queued_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )


@router.get("/jobs")
def list_jobs(
    session: SessionDep,
    _actor: CurrentUser,
    page: PageParams,
    wanted: Annotated[list[JobStatus] | None, Query(alias="status")] = None,
) -> JobPage:
    """List jobs, newest first; ``status`` may be given several times."""
    found = service.list_jobs(session, statuses=wanted or (), page=page)
    reasons = service.waiting_reasons(session, found.items)
    items = [job_out(session, job, reason=reasons.get(job.id)) for job in found.items]
    return JobPage(items=items, next=found.next, total=found.total)


@router.get("/jobs/{job_id}")
def get_job(session: SessionDep, _actor: CurrentUser, job_id: str) -> JobOut:
    """Show a job."""
    job = service.get(session, job_id)
    return job_out(session, job, reason=service.waiting_reason(session, job))


@router.get("/jobs/{job_id}/events")
def list_events(
    session: SessionDep,
    _actor: CurrentUser,
    job_id: str,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> EventList:
    """List a job's stored events after a ``seq``, oldest first."""
    service.get(session, job_id)
    items = service.events_after(session, job_id=job_id, after=after, limit=limit)
    return EventList(items=items, next=items[-1].seq if len(items) == limit else None)


@router.post("/jobs/{job_id}/stop", status_code=status.HTTP_202_ACCEPTED)
def stop_job(session: SessionDep, actor: Member, job_id: str, body: StopRequest) -> JobOut:
    """Ask a job to end; a queued one ends at once."""
    job = service.get(session, job_id)
    require_owner(actor, job.owner_id)
    stopped = service.request_stop(session, job_id=job_id, mode=body.mode)
    audit(
        session,
        actor=actor,
        action="job.stop",
        subject_type="job",
        subject_id=job_id,
        detail={"mode": body.mode},
    )
    return job_out(session, stopped, reason=service.waiting_reason(session, stopped))


@router.get("/devices", tags=["devices"])
def list_devices(session: SessionDep, _actor: CurrentUser) -> DeviceList:
    """List the devices that workers offer, with what each does."""
    present = devices.present(session)
    jobs = service.get_many(session, [device.job_id for device in present if device.job_id])
    items = [_device_out(device, jobs.get(device.job_id or "")) for device in present]
    return DeviceList(items=items, total=len(items))


def _device_out(device: Device, job: Job | None) -> DeviceOut:
    reading = device.reading
    return DeviceOut(
        id=device.id,
        host=device.host,
        name=device.name,
        kind=device.kind,
        index=device.index,
        memory_bytes=device.memory_bytes,
        memory_used=reading.get("memory_used"),
        utilization=reading.get("utilization"),
        temperature=reading.get("temperature"),
        power=reading.get("power"),
        driver=device.driver,
        compute_capability=device.compute_capability,
        foreign=reading.get("foreign", []),
        last_seen_at=device.last_seen_at,
        job=DeviceJob.model_validate(job) if job else None,
        run=job.subject_id if job and job.kind == JobKind.TRAIN else None,
    )
