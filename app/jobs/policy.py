"""Which queued job runs next, on which device, and why the others wait. Pure.

Knows neither database nor workers: it is given what is queued and what there is, and answers.
Fair share will be a different ``order``; nothing else asks who comes first.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

AUTO = "auto"
KIND_NAMES = {"cuda": "GPU", "cpu": "CPU"}


@dataclass(frozen=True)
class QueuedJob:
    """What the policy may know of a job that waits."""

    id: str
    priority: int
    queued_at: datetime
    device_kind: str | None = None
    devices_needed: int = 0


@dataclass(frozen=True)
class Offer:
    """A device that a worker offers, and the title of the job that holds it, if any."""

    id: str
    host: str
    kind: str
    index: int
    holder: str | None = None


@dataclass(frozen=True)
class Placement:
    """A job and the devices it gets, all of one box; none where it needs none."""

    job: QueuedJob
    devices: tuple[Offer, ...]


def order(jobs: Iterable[QueuedJob]) -> list[QueuedJob]:
    """Return ``jobs`` as they are to start: the higher priority first, then who came first."""
    return sorted(jobs, key=lambda job: (-job.priority, job.queued_at, job.id))


def wanted_kind(job: QueuedJob, offers: Sequence[Offer]) -> str:
    """Return the kind of device that ``job`` takes; "auto" is a GPU where one is offered."""
    if job.device_kind not in (None, AUTO):
        return str(job.device_kind)
    return "cuda" if any(offer.kind == "cuda" for offer in offers) else "cpu"


def fitting(job: QueuedJob, offers: Sequence[Offer]) -> list[Offer]:
    """Return the free devices on which ``job`` may start, best first."""
    kind = wanted_kind(job, offers)
    free = [offer for offer in offers if offer.holder is None and offer.kind == kind]
    return sorted(free, key=lambda offer: (offer.host, offer.index))


def placements(jobs: Iterable[QueuedJob], offers: Sequence[Offer]) -> list[Placement]:
    """Return what could start now on the devices of one box, in the order to try it.

    A job that needs several devices and lacks some keeps those that are free from the jobs behind
    it: else these would take them one by one, and it would never start.
    """
    found: list[Placement] = []
    kept: set[str] = set()
    for job in order(jobs):
        free = [offer for offer in fitting(job, offers) if offer.id not in kept]
        if job.devices_needed == 0:
            found.append(Placement(job, ()))
        elif job.devices_needed == 1:
            found += [Placement(job, (offer,)) for offer in free]
        elif job.devices_needed <= len(free):
            found.append(Placement(job, tuple(free[: job.devices_needed])))
        elif job.devices_needed <= _count(offers, wanted_kind(job, offers)):
            kept.update(offer.id for offer in free)
    return found


def _count(offers: Iterable[Offer], kind: str) -> int:
    return sum(offer.kind == kind for offer in offers)


def waiting_reason(job: QueuedJob, others: Iterable[QueuedJob], offers: Sequence[Offer]) -> str:
    """Say in one sentence why ``job`` waits. ``others`` are the queued jobs of its lane."""
    before = order([job, *(other for other in others if other.id != job.id)]).index(job)
    if job.devices_needed == 0:
        return f"Waits for a free worker; {_before(before)}."
    if not offers:
        return "No worker is running; start one with `tunebox worker`."
    kind = wanted_kind(job, offers)
    name = KIND_NAMES.get(kind, kind)
    same = [offer for offer in offers if offer.kind == kind]
    if not same:
        return f"It needs a {name}, and none of the {len(offers)} devices of the workers is one."
    most = max(Counter(offer.host for offer in same).values())
    if most < job.devices_needed:
        return f"It needs {job.devices_needed} {name}s at once, and no box has more than {most}."
    return f"{_lack(job, same, name)}; {_before(before)}."


def _lack(job: QueuedJob, same: Sequence[Offer], name: str) -> str:
    """Say which of the devices that would do are not free."""
    free = Counter(offer.host for offer in same if offer.holder is None)
    now = max(free.values(), default=0)
    if now >= job.devices_needed:
        return "Starts in a moment"
    if job.devices_needed > 1:
        return f"It needs {job.devices_needed} {name}s at once, and {now} are free"
    if len(same) == 1:
        return f"The {name} is busy with {same[0].holder}"
    return f"All {len(same)} {name}s are busy"


def _before(count: int) -> str:
    if count == 0:
        return "it is next"
    return "1 job is before it" if count == 1 else f"{count} jobs are before it"
