"""The table of states: everything can be reached, everything can end, nothing leaves by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.jobs.state import (
    EXIT_CODES,
    FAILURES,
    FINAL,
    LIVE,
    TRANSITIONS,
    FailureKind,
    InvalidTransition,
    JobStatus,
    check_transition,
)


def _reachable(start: JobStatus) -> set[JobStatus]:
    found, edge = {start}, [start]
    while edge:
        new = TRANSITIONS[edge.pop()] - found
        found |= new
        edge += new
    return found


def test_every_state_has_its_row_and_can_be_reached_from_the_queue() -> None:
    assert set(TRANSITIONS) == set(JobStatus) == _reachable(JobStatus.QUEUED)


@pytest.mark.parametrize("status", [one for one in JobStatus if one not in FINAL])
def test_every_job_can_end_and_be_cancelled(status: JobStatus) -> None:
    assert {JobStatus.CANCELLED, JobStatus.SUCCEEDED, JobStatus.FAILED} <= _reachable(status)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_every_live_job_can_go_back_to_the_queue_when_its_worker_is_lost(status: JobStatus) -> None:
    assert JobStatus.QUEUED in TRANSITIONS[status]


def test_what_succeeded_stays_so() -> None:
    assert TRANSITIONS[JobStatus.SUCCEEDED] == frozenset()


@given(st.sampled_from(JobStatus), st.sampled_from(JobStatus))
def test_the_check_says_what_the_table_says(current: JobStatus, wanted: JobStatus) -> None:
    if wanted in TRANSITIONS[current]:
        check_transition(current, wanted)
    else:
        with pytest.raises(InvalidTransition):
            check_transition(current, wanted)


@given(st.lists(st.integers(min_value=0, max_value=10), max_size=30))
def test_a_walk_through_the_table_never_gets_stuck_but_in_success(choices: list[int]) -> None:
    status = JobStatus.QUEUED
    for choice in choices:
        following = sorted(TRANSITIONS[status])
        if not following:
            assert status is JobStatus.SUCCEEDED
            return
        status = following[choice % len(following)]
        assert not (status.is_final and status.is_live)


def test_every_kind_of_failure_has_its_text_and_its_own_exit_code() -> None:
    assert set(FAILURES) == set(FailureKind) == set(EXIT_CODES)
    assert len(set(EXIT_CODES.values())) == len(FailureKind)
    assert all(10 <= code <= 29 for code in EXIT_CODES.values())
