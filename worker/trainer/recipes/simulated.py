"""A run that trains nothing: the events, files, failures and exit codes of a real one, for tests.

A real child process with real signals and real checkpoints; no torch, so that it starts at once.
Figures follow from the seed and the step alone: a resumed run tells what an undisturbed one tells.
"""

import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.jobs.events import EventType
from app.jobs.state import FailureKind
from app.runs.spec import Simulate, TrainerJob
from worker.trainer.emitter import Emitter
from worker.trainer.files import write_whole
from worker.trainer.stopping import Leave, Stop, Stopped

TOKENS_PER_STEP = 2048
BATCH = 8
ITEMS = 20
SHARE_RIGHT = 0.8


class SimulatedFault(Exception):
    """The failure that the spec asked for."""

    def __init__(self, kind: FailureKind, step: int) -> None:
        super().__init__(f"simulated {kind} at step {step}")
        self.kind = kind


def train(job: TrainerJob, *, folder: Path, emitter: Emitter, stop: Stop) -> None:
    """Act out the run that ``job`` describes, from its last checkpoint on."""
    config = job.run.config
    plan = config.simulate or Simulate()
    seed, peak = config.training.seed, config.training.learning_rate
    every = config.evaluation.every_steps or max(1, plan.steps // 10)
    save_every = config.checkpoints.every_steps or every
    ballast = bytearray(b"\1") * (plan.memory_bytes or 0)  # touched, so that it counts
    started = time.monotonic()

    emitter.phase("loading")
    emitter.phase("preparing", detail="simulated: nothing is trained")
    step, best = _resume(folder, fresh=job.fresh)
    if emitter.goes_on:
        emitter.phase("resumed", step=step)
    emitter.phase("training", step=step, total_steps=plan.steps)

    while step < plan.steps:
        _leave_if_asked(
            stop, folder=folder, emitter=emitter, step=step, best=best, keep=config.checkpoints.keep
        )
        time.sleep(plan.step_seconds)
        step += 1
        _act_out(plan, step=step, emitter=emitter)
        emitter.metrics(_figures(seed, step, plan, peak=peak, memory=len(ballast)), step=step)
        if step % every == 0 or step == plan.steps:
            loss = _validation_loss(seed, step, plan.steps)
            emitter.metrics({"eval/loss": loss, "eval/perplexity": math.exp(loss)}, step=step)
            best = min(best or (loss, step), (loss, step))
        if step % save_every == 0 or step == plan.steps:
            _save(folder, step=step, best=best, keep=config.checkpoints.keep, emitter=emitter)

    _save_adapter(folder, emitter=emitter)
    stop.check()
    emitter.phase("evaluating", step=step)
    report = _report(
        seed, step=step, best=best, steps=plan.steps, seconds=time.monotonic() - started
    )
    items = [_item(seed, index) for index in range(ITEMS)]
    write_whole(folder / "items.jsonl", "".join(json.dumps(item) + "\n" for item in items).encode())
    write_whole(folder / "report.json", json.dumps(report, indent=1).encode())
    emitter.emit(EventType.EVALUATION, {"evaluation": report}, step=step)


def _act_out(plan: Simulate, *, step: int, emitter: Emitter) -> None:
    """Fail or hang at the step that the spec names."""
    if plan.hang_at_step == step:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(3600)
    if plan.fail is None or plan.fail.at_step != step:
        return
    if plan.fail.kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if plan.fail.kind == "nan":
        emitter.metrics({"train/loss": math.nan}, step=step)
        raise SimulatedFault(FailureKind.DIVERGED, step)
    raise SimulatedFault(FailureKind(plan.fail.kind), step)


def _noise(seed: int, step: int, name: str) -> float:
    return random.Random(f"{seed}:{step}:{name}").gauss(0, 1)


def _training_loss(seed: int, step: int, steps: int) -> float:
    return 0.4 + 2.2 * math.exp(-4 * step / steps) + 0.04 * _noise(seed, step, "train")


def _validation_loss(seed: int, step: int, steps: int) -> float:
    share = step / steps
    return 0.5 + 2.1 * math.exp(-4 * share) + 0.12 * share**3 + 0.01 * _noise(seed, step, "eval")


def _figures(
    seed: int, step: int, plan: Simulate, *, peak: float, memory: int
) -> Mapping[str, float | None]:
    seconds = max(plan.step_seconds, 1e-4)
    return {
        "train/loss": _training_loss(seed, step, plan.steps),
        "train/learning_rate": peak * 0.5 * (1 + math.cos(math.pi * (step - 1) / plan.steps)),
        "train/grad_norm": abs(1.2 + 0.3 * _noise(seed, step, "norm")),
        "train/epoch": 3 * step / plan.steps,
        "train/tokens": step * TOKENS_PER_STEP,
        "train/tokens_per_second": TOKENS_PER_STEP
        / seconds
        * (1 + 0.03 * _noise(seed, step, "speed")),
        "device/memory_used": memory or 2**30,
    }


def _leave_if_asked(
    stop: Stop,
    *,
    folder: Path,
    emitter: Emitter,
    step: int,
    best: tuple[float, int] | None,
    keep: int,
) -> None:
    mode = stop.mode
    if mode is None:
        return
    if mode is not Leave.CANCEL:
        _save(folder, step=step, best=best, keep=keep, emitter=emitter)
    if mode is Leave.SAVE:
        _save_adapter(folder, emitter=emitter)
    raise Stopped(mode)


def _save(
    folder: Path, *, step: int, best: tuple[float, int] | None, keep: int, emitter: Emitter
) -> None:
    """Write checkpoints/step-N aside and rename it; remove all but the last ones and the best."""
    final = folder / "checkpoints" / f"step-{step}"
    if step == 0 or final.exists():
        return
    aside = final.with_name(f".{final.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    write_whole(aside / "state.json", json.dumps({"step": step, "best": best}).encode())
    aside.rename(final)
    values = {"path": f"checkpoints/{final.name}", "bytes": (final / "state.json").stat().st_size}
    emitter.emit(
        EventType.CHECKPOINT, {**values, "best": bool(best and best[1] == step)}, step=step
    )
    for old in _checkpoints(folder)[:-keep]:
        if best is None or old != best[1]:
            shutil.rmtree(folder / "checkpoints" / f"step-{old}", ignore_errors=True)


def _checkpoints(folder: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def _resume(folder: Path, *, fresh: bool) -> tuple[int, tuple[float, int] | None]:
    if fresh:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    steps = _checkpoints(folder)
    if not steps:
        return 0, None
    state = json.loads((folder / "checkpoints" / f"step-{steps[-1]}" / "state.json").read_text())
    return state["step"], tuple(state["best"]) if state["best"] else None


def _save_adapter(folder: Path, *, emitter: Emitter) -> None:
    emitter.phase("saving")
    (folder / "adapter").mkdir(exist_ok=True)
    write_whole(folder / "adapter" / "adapter_config.json", b'{"simulated": true}')


def _item(seed: int, index: int) -> dict[str, Any]:
    right = random.Random(f"{seed}:{index}").random() < SHARE_RIGHT
    expected = f"answer {index}"
    return {
        "index": index,
        "line": index + 1,
        "prompt": [{"role": "user", "content": f"simulated question {index}"}],
        "expected": expected,
        "base_output": "I do not know.",
        "tuned_output": expected if right else f"answer {index + 1}",
        "base_scores": {"loss": 2.5, "exact_match": 0.0, "token_f1": 0.0, "rouge_l": 0.0},
        "tuned_scores": {
            "loss": 0.5 if right else 1.5,
            "exact_match": float(right),
            "token_f1": 1.0 if right else 0.5,
            "rouge_l": 1.0 if right else 0.5,
        },
    }


def _report(
    seed: int, *, step: int, best: tuple[float, int] | None, steps: int, seconds: float
) -> dict[str, Any]:
    items = [_item(seed, index) for index in range(ITEMS)]
    names = {"loss": "lower", "exact_match": "higher", "token_f1": "higher", "rouge_l": "higher"}
    metrics = {name: _metric(items, name, better) for name, better in names.items()}
    loss, step_of_best = best or (None, None)
    summary = {
        "train/loss": _training_loss(seed, step, steps),
        "eval/loss": _validation_loss(seed, step, steps),
        "best_eval_loss": loss,
        "best_step": step_of_best,
        "tokens": step * TOKENS_PER_STEP,
        "seconds": seconds,
    }
    return {"suite": "heldout", "n": ITEMS, "step": step, "metrics": metrics, "summary": summary}


def _metric(items: list[dict[str, Any]], name: str, better: str) -> dict[str, Any]:
    def figure(values: list[float]) -> dict[str, float]:
        mean = sum(values) / len(values)
        return {"value": mean, "low": mean - 0.1, "high": mean + 0.1}

    base = [item["base_scores"][name] for item in items]
    tuned = [item["tuned_scores"][name] for item in items]
    difference = figure([b - a for a, b in zip(base, tuned, strict=True)])
    return {
        "base": figure(base),
        "tuned": figure(tuned),
        "difference": difference,
        "n": len(items),
        "better": better,
    }
