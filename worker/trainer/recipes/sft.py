"""Supervised fine-tuning of a LoRA adapter, read from top to bottom.

One loop for CPU and GPU: load, prepare, resume, train, save, evaluate. A step's loss is the mean
over all its learned tokens, however they fall into batches. Knows neither database nor network.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from app.runs.spec import RunConfig, TrainerJob
from worker.trainer import packing, results
from worker.trainer.data import Tokens
from worker.trainer.emitter import Emitter
from worker.trainer.keeping import Keeper, leave_unless_kept, tell_substitutes
from worker.trainer.loading import Loaded, load
from worker.trainer.optimizing import build_optimizer, set_rate, update
from worker.trainer.preparing import prepare
from worker.trainer.ranks import ALONE, Ranks
from worker.trainer.recipes import heldout
from worker.trainer.schedule import timetable
from worker.trainer.stopping import Stop


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
        data = prepare(job, emitter, stop)
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
            loss = validation(loaded, data.validation, config, ranks=ranks)
            figures = {"eval/loss": loss, "eval/perplexity": heldout.perplexity(loss)}
            keeper.tell_validation(loss, figures)
        keeper.save_if_due()
        if state.step >= times.total or times.gives_up(state):
            break
        keeper.leave_if_asked(wish)

        started = time.perf_counter()
        chosen = packing.rows_of_step(
            state.step, rows=len(data.rows), rows_in_step=rows_in_step, seed=plan.seed
        )
        rows = [data.rows[place] for place in chosen]
        rate = keeper.rate
        set_rate(optimizer, rate)
        try:
            ranks.seed(plan.seed, state.step)
            loss, norm = one_step(
                loaded, optimizer, rows, config, batch=keeper.batch_size, ranks=ranks
            )
        except Exception as error:
            keeper.halve_or_raise(error)
            continue
        state.step += 1
        figures = {
            "train/loss": loss,
            "train/learning_rate": rate,
            "train/grad_norm": norm,
            "train/epoch": state.step / data.steps_in_epoch,
        }
        seconds = time.perf_counter() - started
        keeper.tell_step(figures, tokens=packing.count_tokens(rows), seconds=seconds)

    # The result
    keeper.conclude()
    ranks.leave()
    if ranks.is_first:
        results.measure(
            loaded,
            data.held_out,
            data.validation,
            folder=folder,
            state=state,
            emitter=emitter,
            stop=stop,
        )


def one_step(
    loaded: Loaded,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[packing.Row],
    config: RunConfig,
    *,
    batch: int | None = None,
    ranks: Ranks = ALONE,
) -> tuple[float, float]:
    """Train one step; return its loss per learned token and the gradient's norm before the cut."""
    size = batch or config.training.batch_size
    learned = torch.tensor(packing.count_trained(rows), device=loaded.device)
    own = ranks.share(rows)
    loaded.model.train()
    total = torch.zeros((), device=loaded.device)
    for start in range(0, len(own), size):
        total += one_batch(loaded, own[start : start + size], learned)
    norm = update(loaded, optimizer, config, ranks, total)
    return total.item(), norm


def one_batch(loaded: Loaded, rows: Sequence[packing.Row], learned: torch.Tensor) -> torch.Tensor:
    """Add a batch's gradients; its graph, and what hangs on it, ends with this function."""
    batch = packing.to_device(loaded.collate(rows), loaded.device)
    with loaded.autocast():
        out = loaded.model(**batch, num_items_in_batch=learned, use_cache=False)
    out.loss.backward()
    return out.loss.detach()


@torch.no_grad()
def validation(
    loaded: Loaded, examples: Sequence[Tokens], config: RunConfig, *, ranks: Ranks = ALONE
) -> float:
    """Return the loss per learned token on the rows held out."""
    batch = config.training.batch_size
    loaded.model.eval()
    learned = torch.tensor(sum(one.trained for one in examples), device=loaded.device)
    own, loss = ranks.share(examples), 0.0
    for start in range(0, len(own), batch):
        rows = packing.alone(own[start : start + batch])
        inputs = packing.to_device(loaded.collate(rows), loaded.device)
        with loaded.autocast():
            out = loaded.model(**inputs, num_items_in_batch=learned, use_cache=False)
        loss += out.loss.item()
    return ranks.sum(loss)
