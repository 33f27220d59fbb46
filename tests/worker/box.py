"""A small box for worker tests: committed rows, real workers, things to wait for and kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.devices import service as devices
from app.devices.inventory import Found
from app.jobs import service as jobs
from app.jobs.events import EventType, JobEvent
from app.jobs.models import Job
from app.jobs.state import JobStatus
from app.kit.db import AWAY, transaction
from app.kit.storage import job_folder
from app.metrics import service as metrics
from app.queue import ring
from app.runs.models import Run
from app.settings import Settings, get_settings
from tests.fixtures.builders import create_run, simulated
from worker import supervisor

LEASE, GRACE = "1.5", "2"


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make leases and graces short in this process and its children."""
    monkeypatch.setenv("TUNEBOX_LEASE_SECONDS", LEASE)
    monkeypatch.setenv("TUNEBOX_STOP_GRACE_SECONDS", GRACE)
    get_settings.cache_clear()


class Box:
    """What a test may do to a box with one CPU device."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url
        self.settings, self.url = settings, settings.database_url
        self._number = 0
        cpu = Found(kind="cpu", index=0, name="test CPU", memory_bytes=2**30)
        with transaction(self.url) as session:
            devices.announce(session, host=supervisor.host_name(), found=[cpu])

    def submit(self, **switches: Any) -> str:
        """Queue a simulated run, ring, and return its job's id."""
        with transaction(self.url) as session:
            run = create_run(session, config=simulated(**switches))
            job = jobs.get(session, run.job_id)
            ring(session, supervisor.Lane(job.lane))
            return run.job_id

    def job(self, job_id: str) -> Job:
        """Return the job as it is stored now."""
        with transaction(self.url) as session:
            return jobs.get(session, job_id)

    def run_of(self, job_id: str) -> Run:
        """Return the run of a job."""
        with transaction(self.url) as session:
            return session.query(Run).filter_by(job_id=job_id).one()

    def events(self, job_id: str) -> list[JobEvent]:
        """Return all stored events."""
        with transaction(self.url) as session:
            return jobs.events_after(session, job_id=job_id, limit=100_000)

    def steps(self, job_id: str) -> list[int]:
        """Return the steps of the stored training curve."""
        with transaction(self.url) as session:
            found = metrics.series(session, job_id=job_id, names=["train/loss"], points=10_000)
            return found["series"].get("train/loss", {"step": []})["step"]

    def wait(self, job_id: str, *statuses: JobStatus, seconds: float = 30) -> Job:
        """Wait until the job has one of ``statuses``."""
        return self.until(
            lambda: job if (job := self.job(job_id)).status in statuses else None,
            f"{job_id} to become {statuses}",
            seconds=seconds,
        )

    def wait_for_step(self, job_id: str, step: int) -> None:
        """Wait until a step is stored."""
        self.until(lambda: self.job(job_id).step >= step, f"step {step}")

    def until(self, condition: Callable[[], Any], what: str, *, seconds: float = 30) -> Any:
        """Wait for a condition; databases may be away meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except AWAY:
                pass
            time.sleep(0.03)
        raise AssertionError(f"waited in vain for {what}")

    def folder(self, job_id: str) -> Path:
        """Return the job's folder."""
        return job_folder(self.settings, job_id)

    def start_celery(self, lane: str = "devices") -> subprocess.Popen[bytes]:
        """Start a real Celery worker and wait until it is ready; ``end`` ends it."""
        self._number += 1
        log = self.settings.data_folder / f"worker-{lane}-{self._number}.log"
        command = [
            *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "worker.main", "worker"),
            *("-Q", lane, "-c", "1", "-n", f"{lane}-{self._number}@%h", "-l", "INFO"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            self.until(lambda: b"ready" in log.read_bytes(), "the worker to be ready", seconds=60)
        except BaseException:
            sys.stderr.write(log.read_text(errors="replace")[-6000:])
            end(process)
            raise
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a worker and whoever it started."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        family = []
    process.kill()
    process.wait()
    for one in family:
        try:
            one.kill()
        except psutil.Error:
            continue


def trainers(job_id: str) -> list[int]:
    """Return the process ids of a job's trainers, shepherds left out."""
    found: list[int] = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "worker.trainer" in line and "worker.shepherd" not in line and job_id in line[-1]:
            found.append(process.pid)
    return found


def kill(pid: int) -> None:
    """Kill without mercy."""
    os.kill(pid, signal.SIGKILL)


def assert_whole(box: Box, job_id: str, steps: int) -> None:
    """Check that the curve is complete and no event was lost or stored twice."""
    events = box.events(job_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    lines = (box.folder(job_id) / "events.jsonl").read_bytes().splitlines()
    told = [JobEvent.model_validate_json(line) for line in lines]
    stored = [event for event in events if event.type is not EventType.STATE]
    assert [(one.type, one.at, one.step) for one in stored] == [
        (one.type, one.at, one.step) for one in told
    ]
    assert box.job(job_id).recorded_seq == told[-1].seq
    assert box.steps(job_id) == list(range(1, steps + 1))
