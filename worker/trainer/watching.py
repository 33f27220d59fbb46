"""Signs that a run goes wrong: no number any more, a loss that left its band, steep gradients. Pure.

Looks at one step after the other; what it remembers is a part of the run's state, so that a run
that goes on judges as an undisturbed one. Knows nothing of what is done about it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from app.runs.spec import Watch

WINDOW = 50  # losses that make the band
LEAST = 20  # fewer make none
WIDTH = 6.0  # of the band above the median, in deviations
_DEVIATION = 1.4826  # of a median distance, for a normal distribution
_NARROWEST = 0.02  # of the median: a deviation is not taken for less


@dataclass(frozen=True)
class Trouble:
    """A sign, in a sentence; ``since`` is the first step that showed it."""

    code: str
    text: str
    since: int
    is_end: bool = False  # no step after it can be of use


@dataclass
class Watcher:
    """What was seen so far."""

    losses: list[float] = field(default_factory=list[float])
    above: int = 0  # steps in a row above the band
    steep: int = 0  # steps in a row with a steep gradient

    @classmethod
    def remembering(cls, seen: Mapping[str, Any] | None) -> "Watcher":
        """Return a watcher that has seen what ``remembered`` gave."""
        return cls(**seen) if seen else cls()

    def remembered(self) -> dict[str, Any]:
        """Return all that it knows, as JSON."""
        return asdict(self)

    @property
    def is_worried(self) -> bool:
        """Tell whether the last step showed a sign."""
        return self.above > 0 or self.steep > 0

    def look(
        self, plan: Watch, *, step: int, loss: float | None, norm: float | None
    ) -> Trouble | None:
        """Judge a step; a sign that lasts is told once in so many steps as make it one."""
        if any(one is not None and not math.isfinite(one) for one in (loss, norm)):
            text = f"step {step}: loss {loss}, gradient norm {norm}"
            return Trouble("not_finite", text, step, is_end=True)
        return self._loss(plan, step, loss) or self._norm(plan, step, norm)

    def _loss(self, plan: Watch, step: int, loss: float | None) -> Trouble | None:
        if loss is None:
            return None
        top = band(self.losses)
        if top is None or loss <= top:
            self.above = 0
            self.losses = [*self.losses, loss][-WINDOW:]
            return None
        self.above += 1
        if self.above < plan.loss_steps:
            return None
        since, self.above, self.losses = step - self.above + 1, 0, []
        text = (
            f"The loss has been above {top:.4g} since step {since} and is {loss:.4g} at step {step}"
        )
        return Trouble("diverging", text, since)

    def _norm(self, plan: Watch, step: int, norm: float | None) -> Trouble | None:
        self.steep = self.steep + 1 if norm is not None and norm > plan.gradient_norm else 0
        if norm is None or self.steep < plan.loss_steps:
            return None
        since, self.steep = step - self.steep + 1, 0
        text = (
            f"The gradient norm has been above {plan.gradient_norm:g} since step {since} "
            f"and is {norm:.4g} at step {step}"
        )
        return Trouble("steep_gradients", text, since)


def band(losses: list[float]) -> float | None:
    """Return the largest loss that is none too large, or None where too few are known."""
    if len(losses) < LEAST:
        return None
    middle = median(losses)
    deviation = _DEVIATION * median(abs(loss - middle) for loss in losses)
    return middle + WIDTH * max(deviation, _NARROWEST * abs(middle))
