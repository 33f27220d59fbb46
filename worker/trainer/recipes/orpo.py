"""Odds ratio preference optimization (Hong et al., 2024), read from top to bottom.

One loop for CPU and GPU: load, prepare, resume, train, save, evaluate. The better answer is learned
as any answer is, and its odds are to be above those of the worse one; no model from before training
is asked. Knows neither database nor network.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid

from app.runs.parts import Preference
from app.runs.spec import RunConfig, TrainerJob
from worker.trainer import plan as planning
from worker.trainer import results
from worker.trainer.emitter import Emitter
from worker.trainer.keeping import Keeper, leave_unless_kept, tell_substitutes
from worker.trainer.likelihoods import evaluating, likelihoods
from worker.trainer.loading import Loaded, load
from worker.trainer.optimizing import build_optimizer, set_rate, update
from worker.trainer.pairing import Pair, prepare_pairs
from worker.trainer.ranks import ALONE, Ranks
from worker.trainer.schedule import timetable
from worker.trainer.stopping import Stop

# TRL's names
FIGURES = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "nll_loss",
    "log_odds_ratio",
    "log_odds_chosen",
)


def train(
    job: TrainerJob, *, folder: Path, emitter: Emitter, stop: Stop, ranks: Ranks = ALONE
) -> None:
    """Train as ``job`` says, from the folder's last checkpoint on.

    With several ``ranks`` each process trains its share of every step.
    """
    config, plan = job.run.config, job.run.config.training
    torch.manual_seed(plan.seed)
    leave_unless_kept(stop)

    # Model and data
    loaded = load(job)
    leave_unless_kept(stop)
    tell_substitutes(job, loaded, emitter)
    emitter.log(loaded.form.said)
    emitter.phase("preparing")
    ranks.join(folder, device=loaded.device)
    with ranks.first_one_first():
        data = prepare_pairs(job, emitter, stop)
    optimizer = build_optimizer(loaded, config)
    times = timetable(config, steps_in_epoch=data.steps_in_epoch)

    # Where we stand
    torch.manual_seed(plan.seed)
    keeper = Keeper(
        job,
        folder=folder,
        loaded=loaded,
        optimizer=optimizer,
        times=times,
        emitter=emitter,
        ranks=ranks,
    )
    with ranks.first_one_first():
        state = keeper.resume(data.fingerprint)
    emitter.phase("training", step=state.step, total_steps=times.total)
    rows_in_step = plan.batch_size * plan.gradient_accumulation

    # Steps
    while True:
        wish = ranks.agree(stop.mode)
        if data.validation and times.validates(state) and not wish:
            emitter.phase("training", step=state.step, within="validation")
            found = validation(loaded, data.validation, config, ranks=ranks)
            keeper.tell_validation(found["loss"], {f"eval/{name}": found[name] for name in found})
        keeper.save_if_due()
        if state.step >= times.total or times.gives_up(state):
            break
        keeper.leave_if_asked(wish)

        started = time.perf_counter()
        chosen = planning.rows_of_step(
            state.step, rows=len(data.rows), rows_in_step=rows_in_step, seed=plan.seed
        )
        rows = [data.rows[place] for place in chosen]
        rate = keeper.rate
        set_rate(optimizer, rate)
        try:
            ranks.seed(plan.seed, state.step)
            found, norm = one_step(
                loaded, optimizer, rows, config, batch=keeper.batch_size, ranks=ranks
            )
        except Exception as error:
            keeper.halve_or_raise(error)
            continue
        state.step += 1
        figures = {
            **{f"train/{name}": found[name] for name in found},
            "train/learning_rate": rate,
            "train/grad_norm": norm,
            "train/epoch": state.step / data.steps_in_epoch,
        }
        seconds = time.perf_counter() - started
        keeper.tell_step(figures, tokens=sum(map(len, rows)), seconds=seconds)

    # The result
    keeper.conclude()
    ranks.leave()
    if ranks.is_first:
        results.measure(
            loaded,
            data.held_out,
            data.better,
            worse=data.worse,
            folder=folder,
            state=state,
            emitter=emitter,
            stop=stop,
        )


def one_step(
    loaded: Loaded,
    optimizer: torch.optim.Optimizer,
    pairs: Sequence[Pair],
    config: RunConfig,
    *,
    batch: int,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float], float]:
    """Train one step; return its figures, means over its pairs, and the gradient's norm."""
    own = ranks.share(pairs)
    loaded.model.train()
    total = torch.zeros(len(FIGURES), device=loaded.device)
    for start in range(0, len(own), batch):
        part = own[start : start + batch]
        figures = one_batch(loaded, part, config.preference) / len(pairs)
        figures[0].backward()
        total += figures.detach()
    norm = update(loaded, optimizer, config, ranks, total)
    return dict(zip(FIGURES, total.tolist(), strict=True)), norm


def one_batch(loaded: Loaded, pairs: Sequence[Pair], preference: Preference) -> torch.Tensor:
    """Return the sums of the figures over a batch of pairs; the first one is the loss.

    TRL's recipe learns the prompt of the better answer too; this one the answer alone, as the paper
    does.
    """
    both = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    chosen, rejected = likelihoods(loaded, both).means.chunk(2)
    odds = log_odds_ratio(chosen, rejected)
    ratio = logsigmoid(odds)
    rewards = (preference.beta * chosen, preference.beta * rejected)
    margins = rewards[0] - rewards[1]
    told = (*rewards, chosen > rejected, margins, chosen, rejected, -chosen, ratio, odds)
    loss = (-chosen - preference.beta * ratio).sum()
    return torch.stack([loss, *(one.detach().float().sum() for one in told)])


def log_odds_ratio(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the odds of one answer over those of the other.

    Both are mean log-probabilities of an answer's tokens, below 0.
    """
    return (chosen - rejected) - (_log_of_rest(chosen) - _log_of_rest(rejected))


def _log_of_rest(logp: torch.Tensor) -> torch.Tensor:
    """Return log(1 - exp(logp)); exact for what is nearly certain and for what is nearly not."""
    below = logp.clamp(max=-1e-6)
    half = -math.log(2)
    return torch.where(below > half, torch.log(-torch.expm1(below)), torch.log1p(-torch.exp(below)))


@torch.no_grad()
def validation(
    loaded: Loaded, pairs: Sequence[Pair], config: RunConfig, *, ranks: Ranks = ALONE
) -> dict[str, float]:
    """Return the figures of the pairs held out."""
    own, size = ranks.share(pairs), config.training.batch_size
    total = torch.zeros(len(FIGURES), device=loaded.device)
    with evaluating(loaded):
        for start in range(0, len(own), size):
            total += one_batch(loaded, own[start : start + size], config.preference)
    means = [ranks.sum(one) / len(pairs) for one in total.tolist()]
    return dict(zip(FIGURES, means, strict=True))
