"""One try of a run: ``python -m worker.trainer trial FOLDER``.

Loads what the folder's spec.json asks for, makes the batches that the run will make, and does a few
real steps: the heaviest batch that chance may bring together twice, then the run's first steps.
Writes ``trial.json``: does it fit, peak, pace, and when the run would end. A process of its own, so
that nothing of one try is left for the next. Exit codes are those of ``app.jobs.state``.
"""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from app.jobs.state import EXIT_CODES, EXIT_DONE, FailureKind
from app.runs.spec import TrainerJob
from worker.trainer import attempt, failures, forecast, peaks
from worker.trainer.emitter import Emitter
from worker.trainer.files import write_whole
from worker.trainer.schedule import timetable

FILE_NAME, ASK_NAME = "trial.json", "ask.json"
_FEWEST_STEPS, _MOST_STEPS = 4, 12  # of the run itself, after two of the heaviest batch
_BUDGET_SECONDS = 20.0  # for all steps, once the fewest are done
_VALIDATION_BATCHES = 8


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
    """A loaded run, of which single steps can be done."""

    def __init__(self, job: TrainerJob, loaded: Any, emitter: Emitter) -> None:
        from worker.trainer.courses import course_of

        self._loaded, self._course = loaded, course_of(job, loaded, emitter)
        course, training = self._course, job.run.config.training
        self._rows = [course.examples(row) for row in course.rows]
        self._held_out = [course.examples(row) for row in course.validation]
        self._times = timetable(job.run.config, steps_in_epoch=course.steps_in_epoch)
        rows_in_step = training.batch_size * training.gradient_accumulation
        self._schedule = forecast.Schedule(
            self._times.total, training.batch_size, rows_in_step, training.seed
        )

    def measured(self, clock: _Clock) -> Measured:
        """Do the steps, return what they took; memory is read by who watches it."""
        rows, schedule, course = self._rows, self._schedule, self._course
        heavy = forecast.heaviest(rows, schedule.batch_size)
        positions = self._positions([rows[place] for place in heavy])
        twice = schedule.rows_in_step > schedule.batch_size
        heaviest = [course.rows[place] for place in (heavy * 2 if twice else heavy)]
        losses, spent = list[float](), list[float]()
        for step in (heaviest, heaviest, *self._first_steps()):
            clock.lap()
            losses.append(course.step(step))
            spent.append(clock.lap())
            if len(spent) >= 2 + _FEWEST_STEPS and sum(spent) > _BUDGET_SECONDS:
                break
        own = [
            (forecast.positions_of_step(rows, schedule, step, positions), seconds)
            for step, seconds in enumerate(spent[2:])
        ]
        # The first of them meet kernels that are not chosen yet, and memory not yet taken.
        pace = forecast.fitted(own[len(own) // 2 :])
        checked = self._validation_seconds(clock, positions)
        trained = forecast.seconds_of_steps(rows, schedule, pace=pace, positions=positions)
        begun = sum(seconds - pace.of(count) for count, seconds in own) + spent[0] - spent[1]
        tokens = forecast.tokens_of_steps(rows, schedule)
        return Measured(
            fits=True,
            step_seconds=trained / schedule.steps,
            tokens_per_second=tokens / trained if trained else None,
            first_step_seconds=spent[0],
            validation_seconds=checked,
            steps=schedule.steps,
            seconds=trained + max(0.0, begun) + checked * self._validations(),
            rows=len(rows),
            examples=sum(len(row) for row in rows),
            longest=max(forecast.tokens(row) for row in rows),
            losses=losses,
        )

    def _first_steps(self) -> Iterator[list[Any]]:
        """Yield the rows of the run's first steps."""
        for step in range(min(self._schedule.steps, _MOST_STEPS)):
            batches = forecast.batches(self._course.rows, self._schedule, step)
            yield [row for batch in batches for row in batch]

    def _positions(self, sample: Sequence[Any]) -> Callable[[Sequence[Any]], int]:
        """Return what counts the positions of a batch in the form that this engine takes."""
        shape = self._loaded.collate(sample)["input_ids"].shape
        is_flat = sum(map(len, sample)) > 1 and shape[0] == 1
        return forecast.unpadded if is_flat else forecast.padded

    def _validation_seconds(
        self, clock: _Clock, positions: Callable[[Sequence[Any]], int]
    ) -> float:
        """Return the seconds of one validation, by a part of the rows held out."""
        course, size = self._course, self._schedule.batch_size
        if not course.validation:
            return 0.0
        part = max(_VALIDATION_BATCHES * size, 2)  # one answer has none to be compared with
        course.validate(course.validation[:part])  # it meets kernels that are not chosen yet
        clock.lap()
        course.validate(course.validation[:part])
        spent = clock.lap()
        whole, looked = (
            sum(positions(rows[start : start + size]) for start in range(0, len(rows), size))
            for rows in (self._held_out, self._held_out[:part])
        )
        return spent * whole / looked

    def _validations(self) -> int:
        return self._times.total // self._times.every + 1
