"""Supervised fine-tuning of a LoRA adapter, read from top to bottom.

One loop for CPU and GPU: load, prepare, resume, train, save, evaluate. A step's loss is the mean
over all its learned tokens, however they fall into batches. Knows neither database nor network.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from app.jobs.events import EventType
from app.jobs.state import FailureKind
from app.runs.spec import RunConfig, TrainerJob
from worker.trainer import checkpoints, packing, schedule
from worker.trainer.checkpoints import State
from worker.trainer.data import Tokens
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.files import folder_bytes, write_whole
from worker.trainer.loading import Loaded, load
from worker.trainer.preparing import Prepared, prepare
from worker.trainer.recipes import heldout
from worker.trainer.stopping import Leave, Stop, Stopped

VALIDATIONS = 10  # about so many in a run whose spec names no interval


def train(  # noqa: C901  # a recipe is read top to bottom
    job: TrainerJob, *, folder: Path, emitter: Emitter, stop: Stop
) -> None:
    """Train as ``job`` says, from the folder's last checkpoint on."""
    config, plan = job.run.config, job.run.config.training
    torch.manual_seed(plan.seed)
    leave_unless_kept(stop)

    # Model and data
    loaded = load(job)
    leave_unless_kept(stop)
    tell_substitutes(job, loaded, emitter)
    emitter.phase("preparing")
    data = prepare(job, emitter, stop)
    optimizer = build_optimizer(loaded, config)
    total = schedule.total_steps(
        epochs=plan.epochs, max_steps=plan.max_steps, steps_in_epoch=data.steps_in_epoch
    )
    every = config.evaluation.every_steps or max(1, round(total / VALIDATIONS))
    save_every = config.checkpoints.every_steps or every
    patience = config.evaluation.early_stopping_patience

    # Where we stand
    torch.manual_seed(plan.seed)
    state = resume(
        job, folder=folder, loaded=loaded, optimizer=optimizer, data=data, emitter=emitter
    )
    emitter.phase("training", step=state.step, total_steps=total)
    rows_in_step = plan.batch_size * plan.gradient_accumulation
    began = time.monotonic() - state.seconds

    def save() -> None:
        state.seconds = time.monotonic() - began
        path = checkpoints.save(folder, loaded, optimizer, state)
        checkpoints.prune(folder, keep=config.checkpoints.keep, best_step=state.best_step)
        tell_checkpoint(emitter, path, state)

    # Steps
    if loaded.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    while True:
        due = state.step % every == 0 or state.step == total
        if data.validation and due and state.evaluated != state.step and not stop.asked:
            validate(loaded, data.validation, state, emitter, batch=plan.batch_size)
        improved = state.best_step == state.step and patience is not None
        if state.step and (state.step % save_every == 0 or state.step == total or improved):
            save()
        early = patience is not None and state.worse >= patience
        if state.step >= total or early:
            break
        if mode := stop.mode:
            if mode is not Leave.CANCEL and state.step % save_every and state.step:
                save()
            if mode is Leave.SAVE:
                finish(job, folder=folder, loaded=loaded, state=state, emitter=emitter)
            raise Stopped(mode)

        started = time.perf_counter()
        chosen = packing.rows_of_step(
            state.step, rows=len(data.rows), rows_in_step=rows_in_step, seed=plan.seed
        )
        rate = schedule.learning_rate(
            state.step,
            peak=plan.learning_rate,
            total=total,
            warmup_ratio=plan.warmup_ratio,
            scheduler=plan.scheduler,
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = [data.rows[place] for place in chosen]
        loss, norm = one_step(loaded, optimizer, rows, config)
        state.step += 1
        state.tokens += (tokens := packing.count_tokens(rows))
        state.loss = loss
        figures = {
            "train/loss": loss,
            "train/learning_rate": rate,
            "train/grad_norm": norm,
            "train/epoch": state.step / data.steps_in_epoch,
            "train/tokens": state.tokens,
            "train/tokens_per_second": tokens / (time.perf_counter() - started),
            "device/memory_used": memory_used(loaded.device),
        }
        emitter.metrics(figures, step=state.step)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            text = f"step {state.step}: loss {loss}, gradient norm {norm}, learning rate {rate:.3g}"
            raise TrainerError(FailureKind.DIVERGED, text)

    # The result
    state.seconds = time.monotonic() - began
    if early and state.best_step is not None and state.best_step != state.step:
        emitter.alert("early_stop", f"No better validation since step {state.best_step}; stopped.")
        checkpoints.load_adapter(folder / "checkpoints" / f"step-{state.best_step}", loaded)
    emitter.phase("saving", step=state.step)
    checkpoints.save_adapter(folder / "adapter", loaded, base_model=job.run.base_model)
    measure(loaded, data, folder=folder, state=state, emitter=emitter, stop=stop)


def leave_unless_kept(stop: Stop) -> None:
    """Leave before the first step, but for a stop that wants a result: that one needs a model."""
    mode = stop.mode
    if mode and mode is not Leave.SAVE:
        raise Stopped(mode)


def tell_substitutes(job: TrainerJob, loaded: Loaded, emitter: Emitter) -> None:
    """Say where the machine lacks what the spec asks for and something else is used."""
    config = job.run.config
    if config.engine not in {"auto", loaded.engine}:
        emitter.alert("engine", f"{config.engine} needs an NVIDIA card; {loaded.engine} is used.")
    if config.training.optimizer == "adamw_8bit" and loaded.device == "cpu":
        emitter.alert("optimizer", "adamw_8bit needs an NVIDIA card; adamw is used.")


def build_optimizer(loaded: Loaded, config: RunConfig) -> torch.optim.Optimizer:
    """Return AdamW over the trained weights; vectors are not decayed."""
    plan = config.training
    weights = list(loaded.trainable().values())
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if plan.optimizer == "adamw" or loaded.device == "cpu":
        fused = loaded.device == "cuda"
        return torch.optim.AdamW(groups, lr=plan.learning_rate, fused=fused)
    from bitsandbytes.optim import AdamW8bit  # only where a card is

    return AdamW8bit(groups, lr=plan.learning_rate)


def resume(
    job: TrainerJob,
    *,
    folder: Path,
    loaded: Loaded,
    optimizer: torch.optim.Optimizer,
    data: Prepared,
    emitter: Emitter,
) -> State:
    """Go on from the newest checkpoint that fits, or begin; say which where someone was before."""
    state = State(data.fingerprint)
    path = None if job.fresh else checkpoints.latest(folder)
    if path and checkpoints.read(path)["fingerprint"] != data.fingerprint:
        text = f"The checkpoint {path.name} was made with other data or settings; we begin again."
        emitter.alert("checkpoint_does_not_fit", text)
        path = None
    if path:
        state = checkpoints.restore(path, loaded, optimizer)
    else:
        checkpoints.clear(folder)
    if emitter.goes_on:
        emitter.phase("resumed", step=state.step)
    return state


def one_step(
    loaded: Loaded,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[packing.Row],
    config: RunConfig,
) -> tuple[float, float]:
    """Train one step; return its loss per learned token and the gradient's norm before the cut."""
    size = config.training.batch_size
    learned = torch.tensor(packing.count_trained(rows), device=loaded.device)
    loaded.model.train()
    total = torch.zeros((), device=loaded.device)
    for start in range(0, len(rows), size):
        total += one_batch(loaded, rows[start : start + size], learned)
    trained = list(loaded.trainable().values())
    norm = torch.nn.utils.clip_grad_norm_(trained, config.training.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total.item(), norm.item()


def one_batch(loaded: Loaded, rows: Sequence[packing.Row], learned: torch.Tensor) -> torch.Tensor:
    """Add a batch's gradients; its graph, and what hangs on it, ends with this function."""
    batch = packing.to_device(loaded.collate(rows), loaded.device)
    with loaded.autocast():
        out = loaded.model(**batch, num_items_in_batch=learned, use_cache=False)
    out.loss.backward()
    return out.loss.detach()


@torch.no_grad()
def validate(
    loaded: Loaded, examples: Sequence[Tokens], state: State, emitter: Emitter, *, batch: int
) -> None:
    """Measure the loss per learned token on the rows held out; remember the best."""
    loaded.model.eval()
    learned = torch.tensor(sum(one.trained for one in examples), device=loaded.device)
    loss = 0.0
    for start in range(0, len(examples), batch):
        rows = packing.alone(examples[start : start + batch])
        inputs = packing.to_device(loaded.collate(rows), loaded.device)
        with loaded.autocast():
            out = loaded.model(**inputs, num_items_in_batch=learned, use_cache=False)
        loss += out.loss.item()
    state.eval_loss, state.evaluated = loss, state.step
    figures = {"eval/loss": loss, "eval/perplexity": heldout.perplexity(loss)}
    emitter.metrics(figures, step=state.step)
    if state.step == 0:  # the base's own loss: nothing was trained that could be kept
        return
    if state.best_loss is None or loss < state.best_loss:
        state.best_loss, state.best_step, state.worse = loss, state.step, 0
    else:
        state.worse += 1


def measure(
    loaded: Loaded, data: Prepared, *, folder: Path, state: State, emitter: Emitter, stop: Stop
) -> None:
    """Evaluate base against tuned and write the report; stopped and kept, it has no scores."""
    emitter.phase("evaluating", step=state.step)
    try:
        metrics, items = heldout.evaluate(
            loaded, data.held_out, data.validation, emitter=emitter, stop=stop, step=state.step
        )
    except Stopped as stopped:
        if stopped.mode is Leave.SAVE:
            write_report(folder, metrics={}, items=[], state=state, emitter=emitter)
        raise
    write_report(folder, metrics=metrics, items=items, state=state, emitter=emitter)


def memory_used(device: str) -> int:
    """Return the bytes this process holds: on the card, or of the machine's memory."""
    if device == "cuda":
        return torch.cuda.memory_reserved()
    return psutil.Process().memory_info().rss


def tell_checkpoint(emitter: Emitter, path: Path, state: State) -> None:
    """Tell of a checkpoint that was written."""
    values: dict[str, Any] = {
        "path": f"checkpoints/{path.name}",
        "bytes": folder_bytes(path),
        "best": state.best_step == state.step,
    }
    if state.evaluated == state.step:
        values["eval_loss"] = state.eval_loss
    emitter.emit(EventType.CHECKPOINT, values, step=state.step)


def finish(
    job: TrainerJob, *, folder: Path, loaded: Loaded, state: State, emitter: Emitter
) -> None:
    """Keep the work of a run that was stopped early: the adapter, and a report without scores."""
    emitter.phase("saving", step=state.step)
    checkpoints.save_adapter(folder / "adapter", loaded, base_model=job.run.base_model)
    write_report(folder, metrics={}, items=[], state=state, emitter=emitter)


def write_report(
    folder: Path,
    *,
    metrics: dict[str, Any],
    items: Sequence[dict[str, Any]],
    state: State,
    emitter: Emitter,
) -> None:
    """Write report.json and items.jsonl, and tell the report."""
    summary: dict[str, Any] = {
        "train/loss": state.loss,
        "eval/loss": state.eval_loss,
        "best_eval_loss": state.best_loss,
        "best_step": state.best_step,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
    }
    if torch.cuda.is_available():
        summary["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
    report = {
        "suite": "heldout",
        "n": len(items),
        "step": state.step,
        "metrics": metrics,
        "summary": summary,
    }
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    write_whole(folder / "items.jsonl", lines.encode())
    write_whole(folder / "report.json", json.dumps(report, indent=1).encode())
    emitter.emit(EventType.EVALUATION, {"evaluation": report}, step=state.step)
