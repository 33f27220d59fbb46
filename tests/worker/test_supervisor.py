"""Runs with a real child process: to the end, stopped, failed, hung, killed."""

import json
import os
import time

import pytest

from app.devices import service as devices
from app.jobs import leasing
from app.jobs import service as jobs
from app.jobs.events import EventType
from app.jobs.models import Job
from app.jobs.state import FailureKind, JobStatus, StopMode
from app.kit.db import transaction
from tests.worker.box import Box, assert_whole, kill, trainers
from tests.worker.conftest import Serving
from worker import stalling
from worker.launch import child_environment
from worker.verdict import Ending, judge


def _stop(box: Box, job_id: str, mode: StopMode) -> None:
    with transaction(box.url) as session:
        jobs.request_stop(session, job_id=job_id, mode=mode)


def test_a_run_is_recorded_whole_and_its_device_is_free_again(box: Box, serving: Serving) -> None:
    job_id = box.submit(steps=30, step_seconds=0.005)
    serving().join()
    job = box.job(job_id)
    assert job.status == JobStatus.SUCCEEDED, job.failure
    assert (job.step, job.total_steps, job.progress) == (30, 30, 1.0)
    assert_whole(box, job_id, 30)
    with transaction(box.url) as session:
        assert all(devices.is_free(device) for device in devices.present(session))
    assert box.run_of(job_id).summary["tokens"] == 30 * 2048


def test_jobs_run_one_after_the_other_on_one_device(box: Box, serving: Serving) -> None:
    ids = [box.submit(steps=5, step_seconds=0.005) for _ in range(2)]
    serving().join()
    first, second = (box.job(job_id) for job_id in ids)
    assert (first.status, second.status) == (JobStatus.SUCCEEDED, JobStatus.SUCCEEDED)
    assert first.finished_at is not None
    assert second.started_at is not None
    assert first.finished_at <= second.started_at


@pytest.mark.parametrize(
    ("mode", "ended"),
    [
        (StopMode.SAVE, JobStatus.SUCCEEDED),
        (StopMode.CANCEL, JobStatus.CANCELLED),
        (StopMode.PAUSE, JobStatus.PAUSED),
    ],
)
def test_a_running_job_stops_as_asked(
    box: Box, serving: Serving, mode: StopMode, ended: JobStatus
) -> None:
    job_id = box.submit(steps=2000, step_seconds=0.01)
    thread = serving()
    box.wait_for_step(job_id, 3)
    _stop(box, job_id, mode)
    thread.join(10)
    assert box.job(job_id).status == ended
    assert trainers(job_id) == []
    assert (box.folder(job_id) / "adapter").exists() == (mode is StopMode.SAVE)


def test_a_paused_run_resumes_from_its_checkpoint(box: Box, serving: Serving) -> None:
    job_id = box.submit(steps=60, step_seconds=0.02)
    thread = serving()
    box.wait_for_step(job_id, 10)
    _stop(box, job_id, StopMode.PAUSE)
    thread.join()
    with transaction(box.url) as session:
        jobs.resume(session, job_id)
    serving().join()
    assert box.job(job_id).status == JobStatus.SUCCEEDED
    assert_whole(box, job_id, 60)
    phases = [event.values.get("phase") for event in box.events(job_id)]
    assert "resumed" in phases


def test_a_failure_is_named_and_a_retry_starts_fresh_if_asked(box: Box, serving: Serving) -> None:
    job_id = box.submit(steps=20, step_seconds=0.005, fail={"kind": "out_of_memory", "at_step": 12})
    serving().join()
    job = box.job(job_id)
    assert job.status == JobStatus.FAILED
    assert job.failure is not None
    assert job.failure["kind"] == FailureKind.OUT_OF_MEMORY
    with transaction(box.url) as session:
        jobs.retry(session, job_id=job_id, fresh=True)
        run = box.run_of(job_id)
        spec = json.loads(json.dumps(run.spec))
        spec["config"]["simulate"]["fail"] = None
        session.merge(run).spec = spec
    serving().join()
    assert box.job(job_id).status == JobStatus.SUCCEEDED
    assert box.steps(job_id) == list(range(1, 21))
    voided = [event for event in box.events(job_id) if event.values.get("phase") == "resumed"]
    assert [event.step for event in voided] == [0]


def test_a_trainer_that_is_killed_goes_on_from_its_checkpoint(box: Box, serving: Serving) -> None:
    job_id = box.submit(steps=60, step_seconds=0.02)
    thread = serving()
    box.wait_for_step(job_id, 20)
    kill(trainers(job_id)[0])
    thread.join()
    job = box.job(job_id)
    assert (job.status, job.attempt, job.lost_count) == (JobStatus.SUCCEEDED, 2, 1)
    assert_whole(box, job_id, 60)


def test_a_trainer_that_is_killed_every_time_fails_as_lost(box: Box, serving: Serving) -> None:
    job_id = box.submit(steps=20, step_seconds=0.005, fail={"kind": "crash", "at_step": 5})
    serving().join()
    job = box.job(job_id)
    assert (job.status, job.attempt) == (JobStatus.FAILED, leasing.MAX_LOSSES)
    assert job.failure is not None
    assert job.failure["kind"] == FailureKind.WORKER_LOST


def test_a_trainer_that_hangs_is_cancelled_within_the_grace(box: Box, serving: Serving) -> None:
    job_id = box.submit(steps=20, step_seconds=0.005, hang_at_step=5)
    thread = serving()
    box.wait_for_step(job_id, 4)
    _stop(box, job_id, StopMode.CANCEL)
    thread.join(15)
    assert box.job(job_id).status == JobStatus.CANCELLED
    assert trainers(job_id) == []


def test_a_fenced_worker_kills_its_trainer_and_writes_nothing(box: Box, serving: Serving) -> None:
    job_id = box.submit(steps=5000, step_seconds=0.01)
    thread = serving()
    box.wait_for_step(job_id, 5)
    with transaction(box.url) as session:
        session.query(Job).filter_by(id=job_id).update({"attempt": 7})
    thread.join(10)
    assert not thread.is_alive()
    assert trainers(job_id) == []
    statuses = [one.values for one in box.events(job_id) if one.type is EventType.STATE]
    assert [values["status"] for values in statuses] == ["starting", "running"]


def test_the_trainer_sees_no_secret_and_only_its_device() -> None:
    secrets = {
        "DATABASE_URL": "x",
        "REDIS_URL": "x",
        "HF_TOKEN": "x",
        "TUNEBOX_ADMIN_PASSWORD": "x",
    }
    given = child_environment({**secrets, "PATH": os.defpath, "HF_HOME": "/h"})
    assert given == {"PATH": os.defpath, "HF_HOME": "/h"}


def test_the_kernels_oom_killer_is_told_from_any_other_kill() -> None:
    killed = judge(Ending(137, killed_for_memory=True))
    assert killed.failure is not None
    assert killed.failure["kind"] == FailureKind.OUT_OF_MEMORY
    assert judge(Ending(137)).lost


def test_a_trainer_that_stands_still_is_told_once(
    box: Box, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalling, "LEAST_SECONDS", 0.5)
    job_id = box.submit(steps=100, step_seconds=0.01, hang_at_step=30)
    thread = serving()
    box.wait_for_step(job_id, 29)
    time.sleep(1.5)
    _stop(box, job_id, StopMode.CANCEL)
    thread.join()
    alerts = [event for event in box.events(job_id) if event.type is EventType.ALERT]
    assert [(one.values["code"], one.step) for one in alerts] == [("stalled", 29)]
    assert box.job(job_id).status == JobStatus.CANCELLED
