"""Signs that a run goes wrong: no number, a loss that left its band, steep gradients, overfitting. Pure.

Looks at one step and one validation after the other; what it remembers is a part of the run's state, so that a run
that goes on judges as an undisturbed one. Knows nothing of what is done about it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
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
    trained: tuple[float, int] = (0.0, 0)  # sum and number of the losses since the last validation
    validations: list[tuple[int, float, float]] = field(
        default_factory=list[tuple[int, float, float]]
    )  # the last ones: step, loss, mean training loss before it

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
        if loss is not None:
            self.trained = (self.trained[0] + loss, self.trained[1] + 1)
        return self._loss(plan, step, loss) or self._norm(plan, step, norm)

    def look_at_validation(self, plan: Watch, *, step: int, loss: float) -> Trouble | None:
        """Judge a validation: trouble if its loss has risen so often while the training's fell."""
        total, count = self.trained
        self.trained = (0.0, 0)
        if not count or not math.isfinite(loss):
            return None
        kept = [*self.validations, (step, loss, total / count)][-plan.rising_validations - 1 :]
        self.validations = kept
        (since, first, before), (_, _, after) = kept[0], kept[-1]
        rises = all(one[1] < next_one[1] for one, next_one in pairwise(kept))
        if len(kept) <= plan.rising_validations or not rises or after >= before:
            return None
        self.validations = kept[-1:]
        text = (
            f"The validation loss has risen {plan.rising_validations} times in a row, from "
            f"{first:.4g} at step {since} to {loss:.4g} at step {step}, while the training loss "
            f"fell from {before:.4g} to {after:.4g}: the run learns its examples by heart"
        )
        return Trouble("validation_rising", text, since)

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
