"""Kahneman-Tversky optimization (Ethayarajh et al., 2024), read from top to bottom.

One loop for CPU and GPU: load, prepare, resume, train, save, evaluate. Each answer is good or bad
by itself: the reward of a good one is to rise above what answers have gained anyway since before
training, that of a bad one to fall below. Knows neither database nor network.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from app.runs.parts import Preference
from app.runs.spec import RunConfig, TrainerJob
from worker.trainer import plan as planning
from worker.trainer import results
from worker.trainer.data import IGNORED, Encoded, Tokens
from worker.trainer.emitter import Emitter
from worker.trainer.keeping import Keeper, leave_unless_kept, tell_substitutes
from worker.trainer.likelihoods import before_training, evaluating, likelihoods
from worker.trainer.loading import Loaded, load
from worker.trainer.optimizing import build_optimizer, set_rate, update
from worker.trainer.pairing import Judged, prepare_judged
from worker.trainer.ranks import ALONE, Ranks
from worker.trainer.schedule import timetable
from worker.trainer.stopping import Stop

# TRL's names; what is told of good answers and of bad ones is a mean over those
OF_EACH = ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")


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
        data = prepare_judged(job, emitter, stop)
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
    rows: Sequence[Judged],
    config: RunConfig,
    *,
    batch: int,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float | None], float]:
    """Train one step; return its figures and the gradient's norm before the cut."""
    own, preference = ranks.share(rows), config.preference
    gained = common_gain(loaded, rows, config, batch=batch, ranks=ranks)
    loaded.model.train()
    total = torch.zeros(1 + len(OF_EACH), device=loaded.device)
    for start in range(0, len(own), batch):
        part = own[start : start + batch]
        sums = one_batch(loaded, part, preference, gained=gained)
        (sums[0] / len(rows)).backward()
        total += sums.detach()
    norm = update(loaded, optimizer, config, ranks, total)
    return told(total.tolist(), rows, gained), norm


def one_batch(
    loaded: Loaded, rows: Sequence[Judged], preference: Preference, *, gained: float
) -> torch.Tensor:
    """Return sums over a batch: of the losses, and what is told of good answers and of bad ones."""
    answers = [row.answer for row in rows]
    with before_training(loaded):
        reference = likelihoods(loaded, answers).sums
    policy = likelihoods(loaded, answers).sums
    ratios = policy - reference
    good = torch.tensor([row.is_good for row in rows], device=ratios.device)
    sign = torch.where(good, 1.0, -1.0)
    weight = torch.where(good, preference.desirable_weight, preference.undesirable_weight)
    losses = weight * (1 - torch.sigmoid(preference.beta * sign * (ratios - gained)))
    rewards = preference.beta * ratios.detach()
    of_each = [one[side].sum() for one in (rewards, policy.detach()) for side in (good, ~good)]
    return torch.stack([losses.sum(), *of_each])


@torch.no_grad()
def common_gain(
    loaded: Loaded,
    rows: Sequence[Judged],
    config: RunConfig,
    *,
    batch: int,
    ranks: Ranks = ALONE,
) -> float:
    """Return what answers have gained whatever they answer, in log-probability; never below 0.

    An estimate of the divergence from the model before training: each prompt of the step with the
    answer to the one before it. Over the whole step, so that it is the same in batches of any size.
    """
    strange = mismatched([row.answer for row in rows], most=config.training.max_length)
    own, gained = ranks.share(strange), 0.0
    with evaluating(loaded):
        for start in range(0, len(own), batch):
            part = own[start : start + batch]
            now = likelihoods(loaded, part).sums
            with before_training(loaded):
                then = likelihoods(loaded, part).sums
            gained += (now - then).sum().item()
    return max(0.0, ranks.sum(gained) / len(strange)) if strange else 0.0


def mismatched(answers: Sequence[Tokens], *, most: int) -> list[Encoded]:
    """Return each prompt with the answer to the one before it; of a single one nothing."""
    found: list[Encoded] = []
    for place, one in enumerate(answers if len(answers) > 1 else ()):
        other = answers[place - 1]
        prompt, start = one.ids[: _prompt_length(one)], _prompt_length(other)
        ids = [*prompt, *other.ids[start:]][:most]
        labels = [*[IGNORED] * len(prompt), *other.labels[start:]][:most]
        encoded = Encoded(one.line, ids, labels)
        if encoded.trained:
            found.append(encoded)
    return found


def _prompt_length(one: Tokens) -> int:
    return next(place for place, label in enumerate(one.labels) if label != IGNORED)


def told(sums: Sequence[float], rows: Sequence[Judged], gained: float) -> dict[str, float | None]:
    """Return the figures of sums over rows; None of a kind of answer that is not among them."""
    good = sum(row.is_good for row in rows)
    counts = (good, len(rows) - good) * 2
    each = [one / count if count else None for one, count in zip(sums[1:], counts, strict=True)]
    found = dict(zip(OF_EACH, each, strict=True))
    chosen, rejected = each[:2]
    margin = None if chosen is None or rejected is None else chosen - rejected
    return {"loss": sums[0] / len(rows), "kl": gained, **found, "rewards/margins": margin}


@torch.no_grad()
def validation(
    loaded: Loaded, rows: Sequence[Judged], config: RunConfig, *, ranks: Ranks = ALONE
) -> dict[str, float | None]:
    """Return the figures of the answers held out."""
    own, size = ranks.share(rows), config.training.batch_size
    gained = common_gain(loaded, rows, config, batch=size, ranks=ranks)
    total = torch.zeros(1 + len(OF_EACH), device=loaded.device)
    with evaluating(loaded):
        for start in range(0, len(own), size):
            part = own[start : start + size]
            total += one_batch(loaded, part, config.preference, gained=gained)
    return told([ranks.sum(one) for one in total.tolist()], rows, gained)
