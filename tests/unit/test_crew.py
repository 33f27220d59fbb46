"""Work done by helpers comes back in order, with its errors; a lost helper is said."""

import os
import signal

import pytest

from app.datasets.check.crew import HelperLost, in_order


def doubled(number: int) -> int:
    if number < 0:
        raise ValueError("a negative number")
    return 2 * number


def process_id(_: int) -> int:
    return os.getpid()


def kill(process: int) -> None:
    os.kill(process or os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_work(processes: int) -> None:
    found = list(in_order(doubled, range(20), processes=processes))

    assert found == list(range(0, 40, 2))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_raised_where_the_work_was_asked(processes: int) -> None:
    with pytest.raises(ValueError, match="a negative number"):
        list(in_order(doubled, [1, -1, 2], processes=processes))


def test_one_process_is_this_one_and_more_are_others() -> None:
    assert set(in_order(process_id, range(3), processes=1)) == {os.getpid()}
    assert os.getpid() not in set(in_order(process_id, range(3), processes=2))


def test_helpers_end_when_their_results_are_no_longer_wanted() -> None:
    results = in_order(process_id, iter(range(1000)), processes=2)
    helper = next(results)
    results.close()  # type: ignore[attr-defined]

    with pytest.raises(ProcessLookupError):
        os.kill(helper, 0)


def test_a_killed_helper_is_an_error_and_no_waiting() -> None:
    with pytest.raises(HelperLost, match="too little memory"):
        list(in_order(kill, [0, 0], processes=2))
