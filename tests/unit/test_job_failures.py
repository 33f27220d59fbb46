"""A stored failure is made for people: a sentence, its evidence, never a traceback."""

from app.jobs.failures import failure_of
from app.jobs.state import FAILURES, FailureKind


def test_a_sentence_of_the_trainer_explains_better_than_the_kind() -> None:
    failure = failure_of(FailureKind.BAD_DATASET, detail="Line 7 has no answer to learn.")
    assert failure["explanation"] == "Line 7 has no answer to learn."


def test_a_traceback_is_left_to_the_log() -> None:
    trace = 'Traceback:\n  File "x.py", line 1\nValueError'
    failure = failure_of(FailureKind.INTERNAL, detail=trace, evidence="ValueError")
    assert failure["explanation"] == FAILURES[FailureKind.INTERNAL].explanation
    assert failure["evidence"] == "ValueError"
