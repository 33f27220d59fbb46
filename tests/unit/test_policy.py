"""Who starts next on which devices, and why the others wait."""

from datetime import timedelta

from app.jobs.policy import Offer, QueuedJob, placements, waiting_reason
from app.kit.clock import utc_now

NOW = utc_now()


def job(name: str, *, needs: int = 1, after: int = 0, priority: int = 0) -> QueuedJob:
    return QueuedJob(name, priority, NOW + timedelta(seconds=after), "cuda", needs)


def cards(count: int, *, busy: int = 0, host: str = "box") -> list[Offer]:
    return [
        Offer(f"{host}:cuda:{at}", host, "cuda", at, "another run" if at < busy else None)
        for at in range(count)
    ]


def started(jobs: list[QueuedJob], offers: list[Offer]) -> list[tuple[str, list[int]]]:
    return [
        (one.job.id, [device.index for device in one.devices]) for one in placements(jobs, offers)
    ]


def test_a_job_gets_all_its_devices_at_once() -> None:
    assert started([job("a", needs=2)], cards(4, busy=1)) == [("a", [1, 2])]


def test_a_job_for_one_device_may_start_on_any_that_is_free() -> None:
    assert started([job("a")], cards(3, busy=1)) == [("a", [1]), ("a", [2])]


def test_a_job_that_lacks_a_device_keeps_the_free_ones_from_those_behind_it() -> None:
    queue = [job("wide", needs=3), job("small", after=1)]
    assert started(queue, cards(3, busy=1)) == []
    assert started([job("small", priority=1), queue[0]], cards(3, busy=1)) == [
        ("small", [1]),
        ("small", [2]),
    ]


def test_a_job_for_more_devices_than_the_box_has_holds_nobody_up() -> None:
    queue = [job("wide", needs=8), job("small", after=1)]
    assert started(queue, cards(2, busy=1)) == [("small", [1])]


def test_work_without_a_device_passes_those_that_wait() -> None:
    queue = [job("wide", needs=2), QueuedJob("check", 0, NOW + timedelta(seconds=1))]
    assert started(queue, cards(2, busy=1)) == [("check", [])]


def test_the_reason_names_how_many_devices_are_lacking() -> None:
    wide = job("wide", needs=3)
    assert waiting_reason(wide, [wide], cards(4, busy=2)) == (
        "It needs 3 GPUs at once, and 2 are free; it is next."
    )
    two_boxes = [*cards(2), *cards(2, host="other")]
    assert waiting_reason(wide, [wide], two_boxes) == (
        "It needs 3 GPUs at once, and no box has more than 2."
    )
    assert waiting_reason(wide, [wide], cards(4)) == "Starts in a moment; it is next."
