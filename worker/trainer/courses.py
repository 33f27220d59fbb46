"""What a try needs of a run, whatever it learns by: its rows, one step, one validation.

The steps are the recipe's own, on rows that the run will train. Knows nothing of clocks or memory.
"""

import importlib
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch

from app.jobs.state import FailureKind
from app.runs.spec import Objective, TrainerJob
from worker.trainer.attempt import RECIPES
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.loading import Loaded
from worker.trainer.optimizing import build_optimizer
from worker.trainer.pairing import Judged, Pair, prepare_judged, prepare_pairs
from worker.trainer.preparing import prepare

Row = Any  # what the recipe takes: packed examples, a pair, an answer


@dataclass(frozen=True)
class Course:
    """A run to be tried.

    ``step`` trains rows as one step and returns their loss, ``validate`` measures rows held out;
    ``examples`` are those of a row, as the model reads them.
    """

    rows: Sequence[Row]
    validation: Sequence[Row]
    steps_in_epoch: int
    step: Callable[[Sequence[Row]], float]
    validate: Callable[[Sequence[Row]], None]
    examples: Callable[[Row], Sequence[Sized]]


def course_of(job: TrainerJob, loaded: Loaded, emitter: Emitter) -> Course:
    """Return the course of a job; an objective that cannot be tried is an ``internal`` failure."""
    config, objective = job.run.config, job.run.config.objective
    if objective not in _PREPARED:
        text = f"{objective.value} cannot be tried before it runs; set fit to off"
        raise TrainerError(FailureKind.INTERNAL, text)
    prepared, examples = _PREPARED[objective]
    recipe = importlib.import_module(f"{RECIPES}.{objective.value}")
    torch.manual_seed(config.training.seed)
    data, optimizer = prepared(job, emitter), build_optimizer(loaded, config)

    def step(rows: Sequence[Row]) -> float:
        batch = config.training.batch_size
        found, _ = recipe.one_step(loaded, optimizer, rows, config, batch=batch)
        return found if isinstance(found, float) else found["loss"]

    def validate(rows: Sequence[Row]) -> None:
        recipe.validation(loaded, rows, config)

    return Course(data.rows, data.validation, data.steps_in_epoch, step, validate, examples)


def _of_pair(pair: Pair) -> Sequence[Sized]:
    return (pair.chosen, pair.rejected)


def _of_judged(one: Judged) -> Sequence[Sized]:
    return (one.answer,)


def _of_rows(row: Sequence[Sized]) -> Sequence[Sized]:
    return row if isinstance(row, list) else (row,)  # held out, they share no sequence


_PREPARED: dict[Objective, tuple[Callable[..., Any], Callable[[Any], Sequence[Sized]]]] = {
    Objective.SFT: (prepare, _of_rows),
    Objective.DPO: (prepare_pairs, _of_pair),
    Objective.ORPO: (prepare_pairs, _of_pair),
    Objective.REWARD: (prepare_pairs, _of_pair),
    Objective.KTO: (prepare_judged, _of_judged),
}
