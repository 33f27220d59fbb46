"""Which curves a run's page draws, by what it learns by. Knows no points: charts fetch them."""

import json
from dataclasses import dataclass

from app.runs.spec import Objective
from app.runs.views import RunView


@dataclass(frozen=True)
class Curve:
    """A figure that both steps and validations tell: its name behind train/ and eval/."""

    title: str
    name: str
    format: str


_ACCURACIES = Curve("Better answer's reward higher", "rewards/accuracies", "share")
_MARGINS = Curve("Reward margin", "rewards/margins", "number")
_REWARDS: dict[Objective, tuple[Curve, ...]] = {
    Objective.DPO: (_ACCURACIES, _MARGINS),
    Objective.ORPO: (_ACCURACIES, Curve("Loss of the better answer", "nll_loss", "loss")),
    Objective.KTO: (_MARGINS, Curve("Divergence (KL)", "kl", "number")),
    Objective.REWARD: (
        Curve("Better answer's reward higher", "accuracy", "share"),
        Curve("Reward margin", "margin", "number"),
    ),
    Objective.GRPO: (
        Curve("Loss", "loss", "loss"),
        Curve("Length of answers, tokens", "completions/mean_length", "number"),
    ),
}


def main_of(view: RunView) -> Curve:
    """Return the curve that says how far a run is: its loss, or what its answers are worth."""
    if view.spec.config.objective is Objective.GRPO:
        return Curve("Reward", "reward", "number")
    return Curve("Loss", "loss", "loss")


def rewards_of(view: RunView) -> tuple[Curve, ...]:
    """Return the curves that belong to what the run learns by, beside its loss."""
    return _REWARDS.get(view.spec.config.objective, ())


def curves_of(view: RunView) -> str:
    """Return what the charts draw, as ``data-runs`` wants it."""
    run = {"id": view.run.id, "job": view.job.id, "label": view.run.name, "name": view.run.name}
    return json.dumps([{**run, "total": view.job.total_steps}])
