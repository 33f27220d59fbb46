"""When a run does what: its steps, its learning rate, when it validates, saves and gives up. Pure.

All follows from the spec and the step's number. Knows neither model nor data nor files.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from app.runs.spec import RunConfig

VALIDATIONS = 10  # about so many in a run whose spec names no interval


def total_steps(*, epochs: float, max_steps: int | None, steps_in_epoch: int) -> int:
    """Return the run's steps; ``max_steps`` wins over the epochs."""
    return max_steps or max(1, math.ceil(epochs * steps_in_epoch))


def learning_rate(
    step: int,
    *,
    peak: float,
    total: int,
    warmup_ratio: float,
    scheduler: Literal["cosine", "linear", "constant"],
) -> float:
    """Return the rate of step ``step`` (from 0): up to the peak, then down as the scheduler says."""
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    if scheduler == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    return peak * (1 - done) if scheduler == "linear" else peak


class Standing(Protocol):
    """Where a run stands, as far as a timetable asks."""

    step: int
    evaluated: int
    best_step: int | None
    worse: int
    given_up: bool


@dataclass(frozen=True)
class Timetable:
    """What is due at which step of a run."""

    config: RunConfig
    total: int
    every: int  # steps between validations
    save_every: int
    patience: int | None  # validations without a better loss

    def rate(self, step: int) -> float:
        """Return the learning rate of step ``step`` (from 0)."""
        plan = self.config.training
        return learning_rate(
            step,
            peak=plan.learning_rate,
            total=self.total,
            warmup_ratio=plan.warmup_ratio,
            scheduler=plan.scheduler,
        )

    def validates(self, at: Standing) -> bool:
        """Tell whether a validation is due; one that was made is not made again."""
        return (at.step % self.every == 0 or at.step == self.total) and at.evaluated != at.step

    def saves(self, at: Standing) -> bool:
        """Tell whether a checkpoint is due: by its interval, at the end, or of a better loss."""
        may_give_up = self.patience is not None or self.config.watch.on_trouble == "stop"
        improved = at.best_step == at.step and may_give_up
        return at.step > 0 and (at.step % self.save_every == 0 or at.step == self.total or improved)

    def gives_up(self, at: Standing) -> bool:
        """Tell whether validation has not become better for as long as the spec waits."""
        return at.given_up or (self.patience is not None and at.worse >= self.patience)


def timetable(config: RunConfig, *, steps_in_epoch: int) -> Timetable:
    """Return the timetable of a run over so many steps an epoch."""
    plan = config.training
    total = total_steps(epochs=plan.epochs, max_steps=plan.max_steps, steps_in_epoch=steps_in_epoch)
    every = config.evaluation.every_steps or max(1, round(total / VALIDATIONS))
    return Timetable(
        config=config,
        total=total,
        every=every,
        save_every=config.checkpoints.every_steps or every,
        patience=config.evaluation.early_stopping_patience,
    )
