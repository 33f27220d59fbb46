"""Jobs without a trainer: done, told when they fail, interrupted when asked."""

import hashlib
from typing import Any

import pytest

from app.auth.roles import Role
from app.datasets import splits
from app.datasets.check import parallel
from app.datasets.models import DatasetSplit, DatasetVersion
from app.jobs import service as jobs
from app.jobs.state import FailureKind, JobKind, JobStatus, StopMode
from app.kit.db import transaction
from app.kit.storage import get_storage
from app.queue import Lane
from tests.fixtures.builders import conversation, create_dataset_version, create_user, jsonl
from tests.worker.box import Box
from worker import supervisor


def _queue_check(box: Box, content: bytes) -> tuple[str, str]:
    with transaction(box.url) as session:
        version = create_dataset_version(session, content=content, status="checking")
        job = jobs.submit(
            session,
            kind=JobKind.ANALYSE_DATASET,
            lane=Lane.LIGHT,
            title="check",
            subject_id=version.id,
            owner_id=version.created_by,
        )
        return job.id, version.id


def _queue_split(box: Box, monkeypatch: pytest.MonkeyPatch, **wish: Any) -> tuple[str, str]:
    """Ask for a split of a version that counts as large; return the job's id and the split's."""
    monkeypatch.setattr(splits, "LARGE_ROWS", 1)
    rows = [
        {**conversation(f"Where is parcel {n}?", f"It is in box {n}."), "topic": "ab"[n % 2]}
        for n in range(40)
    ]
    with transaction(box.url) as session:
        actor = create_user(session, role=Role.MEMBER)
        version = create_dataset_version(session, content=jsonl(rows), owner=actor)
        method = str(wish.pop("method"))
        split = splits.create(
            session,
            actor=actor,
            storage=get_storage(box.settings),
            version=version,
            method=method,
            parameters=wish,
        )
        assert not split.is_made
        return splits.jobs_of(session, [split])[split.id].id, split.id


def _split(box: Box, split_id: str) -> DatasetSplit:
    with transaction(box.url) as session:
        return session.get_one(DatasetSplit, split_id)


def test_a_large_version_is_parted_by_a_job(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, split_id = _queue_split(
        box, monkeypatch, method="stratified", column="topic", fraction=0.2, seed=1
    )

    supervisor.serve(Lane.LIGHT)

    assert box.job(job_id).status == JobStatus.SUCCEEDED
    split = _split(box, split_id)
    with get_storage(box.settings).open(split.key) as source:
        sides = source.read()
    assert (sides.count(0), sides.count(1)) == (32, 8)
    assert split.sha256 == hashlib.sha256(sides).hexdigest()
    assert split.result["held_out"] == 8


def test_a_split_that_cannot_be_made_says_why(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id, split_id = _queue_split(
        box, monkeypatch, method="group", column="nothing", fraction=0.2, seed=1
    )

    supervisor.serve(Lane.LIGHT)

    job = box.job(job_id)
    assert job.status == JobStatus.FAILED
    assert job.failure is not None
    assert job.failure["kind"] == FailureKind.BAD_DATASET
    split = _split(box, split_id)
    assert splits.status_of(split, None) == ("failed", split.failure)
    assert "no row has the column nothing" in str(split.failure)


def test_a_split_that_was_deleted_meanwhile_is_let_be(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, split_id = _queue_split(box, monkeypatch, method="random", fraction=0.2, seed=1)
    with transaction(box.url) as session:
        session.delete(session.get_one(DatasetSplit, split_id))

    supervisor.serve(Lane.LIGHT)

    assert box.job(job_id).status == JobStatus.SUCCEEDED


def _version(box: Box, version_id: str) -> DatasetVersion:
    with transaction(box.url) as session:
        return session.get_one(DatasetVersion, version_id)


def test_every_kind_of_job_has_its_handler() -> None:
    assert set(supervisor.HANDLERS) == set(JobKind)


def test_an_upload_is_checked(box: Box) -> None:
    rows = [conversation("What is the refund policy?", "Thirty days."), {"messages": []}]
    job_id, version_id = _queue_check(box, jsonl(rows))
    supervisor.serve(Lane.LIGHT)
    assert box.job(job_id).status == JobStatus.SUCCEEDED
    version = _version(box, version_id)
    assert (version.status, version.errors) == ("invalid", 1)


def test_a_large_upload_is_checked_by_several_processes(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "LARGE", 1)
    monkeypatch.setattr(parallel, "PART_BYTES", 500)
    rows = [conversation(f"Where is parcel {n}?", f"It is in box {n}.") for n in range(50)]
    job_id, version_id = _queue_check(box, jsonl([*rows, {"messages": []}]))

    supervisor.serve(Lane.LIGHT)

    assert box.job(job_id).status == JobStatus.SUCCEEDED
    version = _version(box, version_id)
    assert (version.examples, version.errors, version.container) == (50, 1, "jsonl")


def test_a_check_that_breaks_says_so_on_the_version_too(box: Box) -> None:
    job_id, version_id = _queue_check(box, b"{}\n")
    get_storage(box.settings).delete(f"datasets/{version_id}/original")
    supervisor.serve(Lane.LIGHT)
    job = box.job(job_id)
    assert job.status == JobStatus.FAILED
    assert job.failure is not None
    version = _version(box, version_id)
    assert (version.status, version.failure) == ("failed", job.failure["evidence"])


def test_a_run_can_pause_but_a_check_cannot(box: Box) -> None:
    job_id, _ = _queue_check(box, b"{}\n")
    with pytest.raises(jobs.Conflict, match="Only runs can pause"), transaction(box.url) as session:
        jobs.request_stop(session, job_id=job_id, mode=StopMode.PAUSE)
    assert box.job(job_id).status == JobStatus.QUEUED
