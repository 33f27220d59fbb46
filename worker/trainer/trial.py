"""One try of a run: ``python -m worker.trainer trial FOLDER``.

Loads what the folder's spec.json asks for, makes the batches that the run will make, and does a few
real steps: the heaviest batch that chance may bring together twice, then the run's first ones.
Writes ``trial.json``: does it fit, peak, pace, and when the run would end. A process of its own, so
that nothing of one try is left for the next. Exit codes are those of ``app.jobs.state``.
"""

import json
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from app.jobs.state import EXIT_CODES, EXIT_DONE, FailureKind
from app.runs.spec import Objective, TrainerJob
from worker.trainer import attempt, failures, forecast, peaks
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.files import write_whole
from worker.trainer.schedule import timetable

FILE_NAME, ASK_NAME = "trial.json", "ask.json"
_REAL_BATCHES = 6
_BUDGET_SECONDS = 20.0  # for the run's own batches; at least two are done


@dataclass
class Measured:
    """What a try told. Bytes, seconds; ``seconds`` is the whole run without its evaluation."""

    fits: bool
    reason: str = ""
    used_bytes: int = 0
    held_bytes: int = 0
    available_bytes: int = 0
    device: str = ""
    engine: str = ""
    step_seconds: float | None = None
    heaviest_seconds: float | None = None
    tokens_per_second: float | None = None
    load_seconds: float | None = None
    prepare_seconds: float | None = None
    first_step_seconds: float | None = None
    validation_seconds: float | None = None
    steps: int | None = None
    seconds: float | None = None
    rows: int | None = None
    examples: int | None = None
    longest: int | None = None
    losses: list[float] = field(default_factory=list[float])


def main(folder: Path) -> int:
    """Try what the folder asks for; return the exit code."""
    emitter = Emitter(folder)
    job: TrainerJob | None = None
    try:
        job = attempt.read_job(folder)
        attempt.prepare_environment(job.run.config)
        found = tried(job, folder, emitter, limit=limit(folder))
    except BaseException as error:
        traceback.print_exc()
        config = job.run.config if job else None
        failure = failures.describe(error, config)
        if failure.kind is not FailureKind.OUT_OF_MEMORY:
            emitter.failure(failure.kind, evidence=failure.evidence, detail=failure.detail)
            return EXIT_CODES[failure.kind]
        found = Measured(fits=False, reason=failure.evidence)
    write(folder, found)
    return EXIT_DONE


def write(folder: Path, found: Measured) -> None:
    """Write trial.json."""
    write_whole(folder / FILE_NAME, json.dumps(asdict(found)).encode())


def limit(folder: Path) -> int | None:
    """Return how many bytes the folder's ask.json lets a try take; None: all that there are."""
    try:
        return json.loads((folder / ASK_NAME).read_bytes()).get("memory_bytes")
    except FileNotFoundError:
        return None


def tried(job: TrainerJob, folder: Path, emitter: Emitter, *, limit: int | None) -> Measured:
    """Return what a few steps of the job cost. Raises what the run itself would raise."""
    objective = job.run.config.objective
    if objective is not Objective.SFT:
        text = f"only sft can be tried before it runs, not {objective}; set fit to off"
        raise TrainerError(FailureKind.INTERNAL, text)
    attempt.import_unsloth(job)
    from worker.trainer.loading import load

    def give_up(peak: peaks.Peak) -> None:
        text = f"the process held {peak.held:,} bytes, and {peak.available:,} are there"
        write(folder, Measured(False, text, peak.used, peak.held, peak.available))
        os._exit(EXIT_DONE)  # the main thread may be deep in a library

    watch = peaks.CardPeak(limit) if job.device == "cuda" else peaks.ProcessPeak(limit, give_up)
    loaded = load(job)
    clock = _Clock(job.device)
    loading = time.time() - psutil.Process().create_time()
    bench = _Bench(job, loaded, emitter)
    preparing = clock.lap()
    found = bench.measured(clock)
    watch.close()
    peak = watch.read()
    found.used_bytes, found.held_bytes = peak.used, peak.held
    found.available_bytes = peak.available
    found.device, found.engine = device_name(job.device), loaded.engine
    found.load_seconds, found.prepare_seconds = loading, preparing
    found.seconds = (found.seconds or 0.0) + loading + preparing
    return found


def device_name(device: str) -> str:
    """Return the card's name, or that it is the CPU."""
    if device != "cuda":
        return "CPU"
    import torch

    return torch.cuda.get_device_name()


class _Clock:
    """Seconds since the last lap; waits for the card first."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._last = time.perf_counter()

    def lap(self) -> float:
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        return passed


class _Bench:
    """A loaded run, of which single batches can be done."""

    def __init__(self, job: TrainerJob, loaded: Any, emitter: Emitter) -> None:
        from worker.trainer.optimizing import build_optimizer
        from worker.trainer.preparing import prepare
        from worker.trainer.recipes import sft

        self._recipe, self._loaded, self._config = sft, loaded, job.run.config
        self._data = prepare(job, emitter)
        self._optimizer = build_optimizer(loaded, job.run.config)
        training = job.run.config.training
        self._times = timetable(job.run.config, steps_in_epoch=self._data.steps_in_epoch)
        rows_in_step = training.batch_size * training.gradient_accumulation
        self._schedule = forecast.Schedule(
            self._times.total, training.batch_size, rows_in_step, training.seed
        )

    def measured(self, clock: _Clock) -> Measured:
        """Do the steps, return what they took; memory is read by who watches it."""
        rows, schedule_ = self._data.rows, self._schedule
        heavy = forecast.heaviest(rows, schedule_.batch_size)
        positions = self._positions(heavy)
        twice = schedule_.rows_in_step > schedule_.batch_size
        loss, spent, update = self._step([heavy, heavy] if twice else [heavy], clock)
        losses, first = [loss], sum(spent) + update
        loss, spent, update = self._step([heavy, heavy] if twice else [heavy], clock)
        losses.append(loss)
        points = [(positions(heavy), spent[-1])]
        real = self._real_batches()
        began = time.perf_counter()
        for place, batch in enumerate(real):
            loss, spent, update = self._step([batch], clock)
            losses.append(loss)
            points.append((positions(batch), spent[-1]))
            if place and time.perf_counter() - began > _BUDGET_SECONDS:
                break
        checked = self._validation_seconds(clock)
        pace = forecast.fitted(points)
        trained = forecast.seconds_of_steps(
            rows, schedule_, pace=pace, update=update, positions=positions
        )
        tokens = forecast.tokens_of_steps(rows, schedule_)
        return Measured(
            fits=True,
            step_seconds=trained / schedule_.steps,
            heaviest_seconds=points[0][1],
            tokens_per_second=tokens / trained if trained else None,
            first_step_seconds=first,
            validation_seconds=checked,
            steps=schedule_.steps,
            seconds=trained + checked * self._validations(),
            rows=len(rows),
            examples=sum(len(row) for row in rows),
            longest=max(forecast.tokens(row) for row in rows),
            losses=losses,
        )

    def _real_batches(self) -> list[list[Any]]:
        """Return the first batches of the run, each of them whole."""
        found: list[list[Any]] = []
        for step in range(min(self._schedule.steps, _REAL_BATCHES)):
            found += forecast.batches(self._data.rows, self._schedule, step)
        whole = [batch for batch in found if len(batch) == self._schedule.batch_size]
        return (whole or found)[:_REAL_BATCHES]

    def _positions(self, sample: Sequence[Any]) -> Callable[[Sequence[Any]], int]:
        """Return what counts the positions of a batch in the form that this engine takes."""
        shape = self._loaded.collate(sample)["input_ids"].shape
        is_flat = len(sample) > 1 and shape[0] == 1
        return forecast.unpadded if is_flat else forecast.padded

    def _step(
        self, batches: Sequence[Sequence[Any]], clock: _Clock
    ) -> tuple[float, list[float], float]:
        """Train a step of these batches; return its loss, seconds by batch, and of the update."""
        import torch

        from worker.trainer import packing

        loaded, total, spent = self._loaded, 0.0, list[float]()
        rows = [row for batch in batches for row in batch]
        learned = torch.tensor(packing.count_trained(rows), device=loaded.device)
        loaded.model.train()
        clock.lap()
        for batch in batches:
            total += self._recipe.one_batch(loaded, batch, learned).item()
            spent.append(clock.lap())
        trained = list(loaded.trainable().values())
        torch.nn.utils.clip_grad_norm_(trained, self._config.training.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total, spent, clock.lap()

    def _validation_seconds(self, clock: _Clock) -> float:
        """Return the seconds of one validation, by the longest rows held out."""
        examples = self._data.validation
        if not examples:
            return 0.0
        import torch

        from worker.trainer import packing

        size = self._config.training.batch_size
        longest = sorted(examples, key=len, reverse=True)[:size]
        inputs = packing.to_device(
            self._loaded.collate(packing.alone(longest)), self._loaded.device
        )
        self._loaded.model.eval()
        clock.lap()
        with torch.no_grad(), self._loaded.autocast():
            self._loaded.model(**inputs, use_cache=False)
        each = clock.lap() / (len(longest) * len(longest[0]))
        batches = [examples[start : start + size] for start in range(0, len(examples), size)]
        return each * sum(len(batch) * max(len(one) for one in batch) for batch in batches)

    def _validations(self) -> int:
        return self._times.total // self._times.every + 1
