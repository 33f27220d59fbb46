"""How long a run is and how its learning rate falls. Pure: a function of the step's number."""

import math
from typing import Literal


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
