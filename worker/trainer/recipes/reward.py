"""Reward model (Bradley and Terry, 1952; Ouyang et al., 2022), read from top to bottom.

One loop for CPU and GPU: load, prepare, resume, train, save, evaluate. A head gives each answer a
number; the loss is small where the better answer of a pair has the higher one. Knows neither
database nor network.
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from app.evaluations.scoring import PICKED
from app.runs.spec import RunConfig, TrainerJob
from worker.trainer import plan as planning
from worker.trainer import results
from worker.trainer.emitter import Emitter
from worker.trainer.keeping import Keeper, leave_unless_kept, tell_substitutes
from worker.trainer.likelihoods import evaluating
from worker.trainer.loading import Loaded, load
from worker.trainer.optimizing import build_optimizer, set_rate, update
from worker.trainer.pairing import Pair, Preferences, prepare_pairs
from worker.trainer.ranks import ALONE, Ranks
from worker.trainer.recipes import heldout
from worker.trainer.schedule import timetable
from worker.trainer.stopping import Stop
from worker.trainer.valuing import values

# TRL's names; each is a mean over pairs
FIGURES = ("loss", "accuracy", "margin", "min_reward", "mean_reward", "max_reward")
ACCURACY, MARGIN = PICKED, "reward_margin"  # of the evaluation


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
        results.report_of(
            lambda: evaluate(loaded, data, emitter=emitter, stop=stop, step=state.step),
            folder=folder,
            state=state,
            emitter=emitter,
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
        figures = one_batch(loaded, own[start : start + batch]) / len(pairs)
        figures[0].backward()
        total += figures.detach()
    norm = update(loaded, optimizer, config, ranks, total)
    return dict(zip(FIGURES, total.tolist(), strict=True)), norm


def one_batch(loaded: Loaded, pairs: Sequence[Pair]) -> torch.Tensor:
    """Return the sums of the figures over a batch of pairs; the first one is the loss."""
    chosen, rejected = valued(loaded, pairs)
    margins = chosen - rejected
    both = torch.stack([chosen, rejected]).detach()
    told = (chosen > rejected, margins, both.amin(0), both.mean(0), both.amax(0))
    return torch.stack([-logsigmoid(margins).sum(), *(one.detach().float().sum() for one in told)])


def valued(loaded: Loaded, pairs: Sequence[Pair]) -> tuple[torch.Tensor, ...]:
    """Return what the better and the worse answers of pairs are worth, each of shape (pairs,)."""
    both = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    return values(loaded, both).chunk(2)


@torch.no_grad()
def validation(
    loaded: Loaded, pairs: Sequence[Pair], config: RunConfig, *, ranks: Ranks = ALONE
) -> dict[str, float]:
    """Return the figures of the pairs held out."""
    own, size = ranks.share(pairs), config.training.batch_size
    total = torch.zeros(len(FIGURES), device=loaded.device)
    with evaluating(loaded):
        for start in range(0, len(own), size):
            total += one_batch(loaded, own[start : start + size])
    means = [ranks.sum(one) / len(pairs) for one in total.tolist()]
    return dict(zip(FIGURES, means, strict=True))


def evaluate(
    loaded: Loaded, data: Preferences[Pair], *, emitter: Emitter, stop: Stop, step: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return report.json's metrics and the items: which answer of a pair the model picks.

    The base is the same model before training, whose head knows nothing yet.
    """
    asked = heldout.questions(data.held_out, data.better, data.worse)
    asked = [one for one in asked if one.worse is not None]
    if not asked:
        return {}, []
    others = data.held_out.of_side("rejected")
    worse = {one.example.line: one.expected for one in heldout.questions(others, data.worse)}
    progress = heldout.Progress(emitter, stop, total=2 * len(asked), step=step)
    margins: dict[str, list[float]] = {}
    for who in ("base", "tuned"):
        off = loaded.untrained() if who == "base" else nullcontext()
        margins[who] = []
        with off, torch.no_grad(), evaluating(loaded):
            for one in asked:
                assert one.worse is not None
                progress.add(1)
                chosen, rejected = valued(loaded, [Pair(one.encoded, one.worse)])
                margins[who].append((chosen - rejected).item())
    items = [
        _item(
            index,
            one,
            worse.get(one.example.line, ""),
            {who: margins[who][index] for who in margins},
        )
        for index, one in enumerate(asked)
    ]
    return heldout.means_of(items, (ACCURACY, MARGIN)), items


def _item(
    index: int, one: heldout.Question, worse: str, margins: dict[str, float]
) -> dict[str, Any]:
    item = heldout.item_of(index, one)
    for who, margin in margins.items():
        item[f"{who}_output"] = one.expected if margin > 0 else worse
        item[f"{who}_scores"] = {ACCURACY: float(margin > 0), MARGIN: margin}
    return item
