"""Direct preference optimization (Rafailov et al., 2023), read from top to bottom.

One loop for CPU and GPU: load, prepare, resume, train, save, evaluate. The reward of an answer is
beta times how much likelier it became since before training; the loss is small where the better
answer's reward is above the worse one's. Knows neither database nor network.
"""

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
from worker.trainer.likelihoods import before_training, evaluating, likelihoods
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
    """Return the sums of the figures over a batch of pairs; the first one is the loss."""
    both = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    with before_training(loaded):
        reference = likelihoods(loaded, both)
    policy = likelihoods(loaded, both)
    rewards = preference.beta * (policy.sums - reference.sums)
    chosen, rejected = rewards.chunk(2)
    margins = chosen - rejected
    told = (chosen, rejected, chosen > rejected, margins, *policy.sums.chunk(2))
    loss = sigmoid_loss(margins, smoothing=preference.label_smoothing).sum()
    return torch.stack([loss, *(one.detach().float().sum() for one in told)])


def sigmoid_loss(margins: torch.Tensor, *, smoothing: float) -> torch.Tensor:
    """Return each pair's loss; robust to a share of the pairs that is the wrong way round.

    Without smoothing that is DPO's, with it robust DPO's (Chowdhury et al., 2024).
    """
    losses = -(1 - smoothing) * logsigmoid(margins) + smoothing * logsigmoid(-margins)
    return losses / (1 - 2 * smoothing)


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
