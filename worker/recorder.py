"""Follows a trainer's ``events.jsonl`` and stores its lines, each exactly once, in small batches.

Commit comes before publication, and both within a few hundredths of a second of the line. What
cannot be stored now (Postgres is away) waits in the file. Knows no process.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.jobs import leasing
from app.jobs.events import EventType, JobEvent
from app.kit.db import AWAY, transaction
from worker import stalling

log = structlog.get_logger(__name__)

FILE_NAME = "events.jsonl"
BATCH = 500
_INTERVAL = 0.05  # between two batches; the first line after a pause waits for nothing
_PAUSE = 0.5  # until the next try when Postgres is away
_CHUNK = 1 << 20
_PACE_STEPS = 50
_SEQ = re.compile(rb'\{"seq": ?(\d+)')

Hook = Callable[[Session, Sequence[JobEvent]], None]


class Tail:
    """Whole lines of a file that grows; a torn last line waits until it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> list[bytes]:
        """Return the whole lines that are new, at most about a megabyte of them."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_CHUNK)
                while data and b"\n" not in data and (more := file.read(_CHUNK)):
                    data += more
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        return data[:whole].splitlines()


def last_seq(path: Path) -> int:
    """Return the ``seq`` of the last whole line, 0 if there is none."""
    tail, last = Tail(path), 0
    while lines := tail.lines():
        last = max([last, *(int(match[1]) for line in lines if (match := _SEQ.match(line)))])
    return last


class Recorder:
    """Stores what one attempt's trainer tells. ``hook`` joins each batch's transaction."""

    def __init__(self, url: str, claim: leasing.Claim, folder: Path, hook: Hook) -> None:
        self._url, self._claim, self._hook = url, claim, hook
        self._tail = Tail(folder / FILE_NAME)
        self._recorded = 0
        self._pending: list[JobEvent] = []
        self._not_before = 0.0
        self._marks: deque[tuple[float, int]] = deque(maxlen=_PACE_STEPS)
        self._pulse = stalling.Pulse()
        self.failure: JobEvent | None = None
        self.heard = False

    def start_after(self, seq: int) -> None:
        """Leave out lines up to ``seq``: they are stored."""
        self._recorded = seq

    def poll(self) -> None:
        """Read what is new and store it if it is time to. Raises ``Fenced``."""
        if len(self._pending) < BATCH:
            self._read()
        if self._pending and time.monotonic() >= self._not_before:
            self._flush()

    def tell_stall(self) -> None:
        """Store an alert if the trainer stands still, once all it told is. Raises ``Fenced``."""
        if self._pending or self._pulse.stall(now=time.monotonic()) is None:
            return
        self._read()  # what came while something else kept us
        text = self._pulse.stall(now=time.monotonic())
        if text is None:
            return
        self._pulse.is_told, claim = True, self._claim
        try:
            with transaction(self._url) as session:
                leasing.alert(
                    session,
                    job_id=claim.job_id,
                    attempt=claim.attempt,
                    code=stalling.CODE,
                    text=text,
                )
        except AWAY as error:
            log.warning("stall_not_told", job=claim.job_id, error=repr(error)[:200])

    def drain(self) -> bool:
        """Store all that is in the file; tell whether that worked. Raises ``Fenced``."""
        self._not_before = 0.0
        while True:
            self._read()
            if not self._pending:
                return True
            if not self._flush():
                return False

    def _read(self) -> None:
        for line in self._tail.lines():
            match = _SEQ.match(line)
            if match and int(match[1]) <= self._recorded:
                continue
            try:
                event = JobEvent.model_validate_json(line)
            except ValidationError:
                log.warning("unreadable_event", job=self._claim.job_id, line=line[:200])
                continue
            self._notice(event)
            self._pending.append(event)

    def _notice(self, event: JobEvent) -> None:
        self.heard = True
        self._pulse.notice(event, now=time.monotonic())
        if event.type is EventType.FAILURE:
            self.failure = event
        if event.type is EventType.METRICS and event.step is not None:
            if self._marks and event.step < self._marks[-1][1]:
                self._marks.clear()
            self._marks.append((event.at.timestamp(), event.step))

    def _seconds_per_step(self) -> float | None:
        if len(self._marks) < 2 or self._marks[-1][1] == self._marks[0][1]:  # noqa: PLR2004
            return None
        (begun, first), (now, last) = self._marks[0], self._marks[-1]
        return max(0.0, (now - begun) / (last - first))

    def _flush(self) -> bool:
        batch = self._pending[:BATCH]
        try:
            with transaction(self._url) as session:
                stored = leasing.record(
                    session,
                    job_id=self._claim.job_id,
                    attempt=self._claim.attempt,
                    events=batch,
                    seconds_per_step=self._seconds_per_step(),
                )
                if stored:
                    self._hook(session, stored)
        except AWAY as error:
            log.warning("recording_waits", job=self._claim.job_id, error=repr(error)[:200])
            self._not_before = time.monotonic() + _PAUSE
            return False
        del self._pending[: len(batch)]
        self._recorded = batch[-1].seq
        self._not_before = time.monotonic() + _INTERVAL
        return True
