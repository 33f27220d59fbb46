"""Whether a trainer has stood still for too long in the middle of its steps. Pure.

Told of each event when it is read, and asked in between. Loading, validation, saving and what comes
after training may take as long as they need: only a step is measured. Knows no process, no file.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from app.jobs.events import EventType, JobEvent

TIMES = 10  # the usual step
LEAST_SECONDS = 60.0
KNOWN = 5  # steps; of fewer it is not known what is usual
_STEPS = 50
CODE = "stalled"


@dataclass
class Pulse:
    """A trainer's steps as its events tell them."""

    seconds: deque[float] = field(default_factory=lambda: deque[float](maxlen=_STEPS))
    _is_stepping: bool = False
    _phase: str = ""
    _at: datetime | None = None  # the last event, by the trainer's clock
    _heard: float = 0.0  # when it was read, by ours
    is_told: bool = False  # of the stall that there is

    def notice(self, event: JobEvent, *, now: float) -> None:
        """Take in an event that was read at ``now``, in seconds of a steady clock."""
        if event.type is EventType.PHASE:
            self._phase = str(event.values.get("phase", ""))
            self._is_stepping = self._phase == "training" and "within" not in event.values
        elif event.type is EventType.METRICS and "train/loss" in event.values:
            if self._is_stepping and self._at is not None:
                self.seconds.append((event.at - self._at).total_seconds())
            self._is_stepping = self._phase == "training"
        elif event.type in {EventType.METRICS, EventType.CHECKPOINT}:
            self._is_stepping = self._phase == "training"
        self._at, self._heard, self.is_told = event.at, now, False

    def stall(self, *, now: float) -> str | None:
        """Return what a user should know of a stall; None while there is none, or it is told."""
        if self.is_told or not self._is_stepping or len(self.seconds) < KNOWN:
            return None
        quiet, usual = now - self._heard, median(self.seconds)
        if quiet < max(LEAST_SECONDS, TIMES * usual):
            return None
        return (
            f"No step for {quiet:,.0f} s; a step usually takes {usual:.3g} s. If the log shows "
            "nothing that explains it, pause or cancel the run."
        )
