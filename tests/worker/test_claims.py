"""Who may hold a job: one claimer at a time, one job per device, and nobody after the lease."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, update

from app.devices import service as devices
from app.devices.inventory import Found
from app.devices.models import Device
from app.jobs import leasing, reaper
from app.jobs import service as jobs
from app.jobs.events import EventType, JobEvent
from app.jobs.models import Job
from app.jobs.state import JobStatus, StopMode
from app.kit.clock import utc_now
from app.kit.db import transaction
from app.queue import Lane
from tests.fixtures.builders import create_run, create_user
from tests.worker.box import Box
from worker import supervisor
from worker.launch import device_environment

HOST = supervisor.host_name()


def _claim(box: Box, *, host: str = HOST, lane: Lane = Lane.DEVICES) -> leasing.Claim | None:
    with transaction(box.url) as session:
        return leasing.claim(session, worker="w:1", host=host, lane=lane, lease_seconds=60)


def _queue(box: Box, *, priority: int = 0) -> str:
    with transaction(box.url) as session:
        return create_run(session, priority=priority).job_id


def _expire(box: Box, job_id: str) -> None:
    past = func.clock_timestamp() - timedelta(seconds=1)
    with transaction(box.url) as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=past))


def _reap(box: Box) -> int:
    with transaction(box.url) as session:
        return reaper.reap(session)


def _metric(seq: int) -> JobEvent:
    values = {"train/loss": 1.0}
    return JobEvent(seq=seq, type=EventType.METRICS, at=utc_now(), step=seq, values=values)


def test_of_many_claimers_one_gets_the_job(box: Box) -> None:
    job_id = _queue(box)
    claims: list[leasing.Claim | None] = []
    threads = [threading.Thread(target=lambda: claims.append(_claim(box))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [claim for claim in claims if claim]
    assert [claim.job_id for claim in won] == [job_id]
    assert box.job(job_id).attempt == 1


def test_a_device_takes_one_job_and_the_other_says_why_it_waits(box: Box) -> None:
    _queue(box)
    waiting = _queue(box)
    assert _claim(box) is not None
    assert _claim(box) is None
    with transaction(box.url) as session:
        reason = jobs.waiting_reason(session, jobs.get(session, waiting))
    assert reason == "The CPU is busy with support-tone; it is next."


def test_the_higher_priority_goes_first_then_who_came_first(box: Box) -> None:
    ids = [_queue(box), _queue(box, priority=10), _queue(box)]
    taken: list[str] = []
    for _ in ids:
        claim = _claim(box)
        assert claim is not None
        taken.append(claim.job_id)
        with transaction(box.url) as session:
            leasing.finish(
                session, job_id=claim.job_id, attempt=1, to=JobStatus.FAILED, failure={"kind": "x"}
            )
    assert taken == [ids[1], ids[0], ids[2]]


def test_a_run_leases_all_its_cards_and_gives_all_back(box: Box) -> None:
    with transaction(box.url) as session:
        session.execute(delete(Device))
        devices.announce(session, host=HOST, found=[_card(at) for at in range(3)])
        job_id = create_run(session).job_id
        statement = update(Job).where(Job.id == job_id)
        session.execute(statement.values(device_kind="cuda", devices_needed=2))
    claim = _claim(box)
    assert claim is not None
    assert (claim.device_kind, claim.device_indices) == ("cuda", (0, 1))
    assert (
        device_environment(claim.device_kind, claim.device_indices)["CUDA_VISIBLE_DEVICES"] == "0,1"
    )
    with transaction(box.url) as session:
        assert [devices.is_free(one) for one in devices.present(session)] == [False, False, True]
        leasing.finish(
            session, job_id=job_id, attempt=1, to=JobStatus.FAILED, failure={"kind": "x"}
        )
    with transaction(box.url) as session:
        assert all(devices.is_free(one) for one in devices.present(session))


def _card(index: int) -> Found:
    return Found(kind="cuda", index=index, name="A card", memory_bytes=2**34)


def test_a_box_without_the_device_takes_no_run(box: Box) -> None:
    _queue(box)
    assert _claim(box, host="elsewhere") is None


def test_work_without_a_device_is_taken_anywhere(box: Box) -> None:
    with transaction(box.url) as session:
        owner = create_user(session)
        jobs.submit(
            session,
            kind=jobs.JobKind.ANALYSE_DATASET,
            lane=Lane.LIGHT,
            title="check",
            subject_id="ver_1",
            owner_id=owner.id,
        )
    assert _claim(box) is None
    assert _claim(box, host="elsewhere", lane=Lane.LIGHT) is not None


def test_an_expired_job_goes_back_to_the_queue_and_fences_its_worker(box: Box) -> None:
    job_id = _queue(box)
    first = _claim(box)
    assert first is not None
    _expire(box, job_id)
    assert _reap(box) == 1
    second = _claim(box)
    assert second is not None
    assert second.attempt == 2
    with pytest.raises(leasing.Fenced), transaction(box.url) as session:
        leasing.heartbeat(session, job_id=job_id, attempt=1, lease_seconds=60)
    with pytest.raises(leasing.Fenced), transaction(box.url) as session:
        leasing.record(session, job_id=job_id, attempt=1, events=[_metric(1)])


def test_the_third_loss_fails_the_job(box: Box) -> None:
    job_id = _queue(box)
    for _ in range(leasing.MAX_LOSSES):
        assert _claim(box) is not None
        _expire(box, job_id)
        _reap(box)
    job = box.job(job_id)
    assert job.status == JobStatus.FAILED
    assert job.failure is not None
    assert job.failure["kind"] == "worker_lost"


@pytest.mark.parametrize(
    ("mode", "ended"), [(StopMode.CANCEL, JobStatus.CANCELLED), (StopMode.PAUSE, JobStatus.PAUSED)]
)
def test_a_stop_is_kept_although_the_worker_is_lost(
    box: Box, mode: StopMode, ended: JobStatus
) -> None:
    job_id = _queue(box)
    assert _claim(box) is not None
    with transaction(box.url) as session:
        jobs.request_stop(session, job_id=job_id, mode=mode)
    _expire(box, job_id)
    _reap(box)
    assert box.job(job_id).status == ended
    with transaction(box.url) as session:
        assert all(devices.is_free(device) for device in devices.present(session))


def test_a_heartbeat_tells_what_is_wished(box: Box) -> None:
    job_id = _queue(box)
    assert _claim(box) is not None
    with transaction(box.url) as session:
        jobs.request_stop(session, job_id=job_id, mode=StopMode.SAVE)
    with transaction(box.url) as session:
        assert (
            leasing.heartbeat(session, job_id=job_id, attempt=1, lease_seconds=60) is StopMode.SAVE
        )


def test_a_line_is_recorded_once_however_often_it_is_told(box: Box) -> None:
    job_id = _queue(box)
    assert _claim(box) is not None
    for lines in ([1, 2], [1, 2, 3], [3]):
        with transaction(box.url) as session:
            events = [_metric(seq) for seq in lines]
            leasing.record(session, job_id=job_id, attempt=1, events=events)
    metrics = [event for event in box.events(job_id) if event.type is EventType.METRICS]
    assert [event.step for event in metrics] == [1, 2, 3]


def test_text_that_postgres_cannot_hold_is_stored_with_a_mark(box: Box) -> None:
    job_id = _queue(box)
    values = {"level": "info", "text": "a\x00b \ud800 ok", "n": float("nan")}
    with transaction(box.url) as session:
        event = JobEvent(seq=0, type=EventType.LOG, at=utc_now(), values=values)
        jobs.append_events(session, job_id, [event])
    assert box.events(job_id)[-1].values == {"level": "info", "text": "a\ufffdb ? ok", "n": None}


def test_a_job_that_nobody_works_on_stops_at_once(box: Box) -> None:
    job_id = _queue(box)
    with transaction(box.url) as session:
        jobs.request_stop(session, job_id=job_id, mode=StopMode.CANCEL)
    assert box.job(job_id).status == JobStatus.CANCELLED
    with pytest.raises(jobs.Conflict), transaction(box.url) as session:
        jobs.request_stop(session, job_id=job_id, mode=StopMode.CANCEL)
