"""A run that is kept: found again where it was, saved, pruned, told, left as asked.

The same for every recipe, which asks at the top of its loop. Knows nothing of how a step is made;
what a checkpoint holds is ``checkpoints``' business.
"""

import gc
import time
import traceback
from pathlib import Path
from typing import Any

import psutil
import torch

from app.jobs.events import EventType
from app.jobs.state import FailureKind
from app.runs.spec import TrainerJob
from worker.trainer import checkpoints, results
from worker.trainer.checkpoints import State
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError, classify
from worker.trainer.files import folder_bytes
from worker.trainer.loading import Loaded
from worker.trainer.optimizing import TornStep
from worker.trainer.ranks import ALONE, Ranks
from worker.trainer.schedule import Timetable
from worker.trainer.stopping import Leave, Stop, Stopped
from worker.trainer.watching import Trouble, Watcher

# What a run may go on with another value of; a change is told.
MAY_CHANGE = (
    "epochs",
    "max_steps",
    "learning_rate",
    "scheduler",
    "warmup_ratio",
    "weight_decay",
    "batch_size",
    "gradient_accumulation",
    "max_grad_norm",
    "neftune_alpha",
)


def leave_unless_kept(stop: Stop) -> None:
    """Leave before the first step, but for a stop that wants a result: that one needs a model."""
    mode = stop.mode
    if mode and mode is not Leave.SAVE:
        raise Stopped(mode)


def tell_substitutes(job: TrainerJob, loaded: Loaded, emitter: Emitter) -> None:
    """Say where the machine lacks what the spec asks for and something else is used."""
    config = job.run.config
    if config.engine not in {"auto", loaded.engine}:
        emitter.alert("engine", f"{loaded.why} {loaded.engine} is used.")
    if config.training.optimizer == "adamw_8bit" and loaded.device != "cuda":
        emitter.alert("optimizer", "adamw_8bit needs an NVIDIA card; adamw is used.")


class Keeper:
    """Holds a run's state, and writes it where it can be found again."""

    def __init__(
        self,
        job: TrainerJob,
        *,
        folder: Path,
        loaded: Loaded,
        optimizer: torch.optim.Optimizer,
        times: Timetable,
        emitter: Emitter,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self.job, self.folder, self.times = job, folder, times
        self.loaded, self.optimizer, self.emitter = loaded, optimizer, emitter
        self.state = State("")
        self._began = time.monotonic()
        self._saved = (0, -1)  # step and validation of the last checkpoint

    def resume(self, fingerprint: str) -> State:
        """Go on from the newest checkpoint that fits, or begin; say which if we were here before.

        ``fingerprint`` names what must not change between attempts.
        """
        self.state = State(fingerprint)
        path = None if self.job.fresh else checkpoints.latest(self.folder)
        if path and checkpoints.read(path)["fingerprint"] != fingerprint:
            text = (
                f"The checkpoint {path.name} was made with other data or settings; we begin again."
            )
            self.emitter.alert("checkpoint_does_not_fit", text)
            path = None
        if path:
            self.state = checkpoints.restore(path, self.loaded, self.optimizer)
            self._saved = (self.state.step, self.state.evaluated)
        elif self._ranks.is_first:
            checkpoints.clear(self.folder)
        if self.emitter.goes_on:
            self.emitter.phase("resumed", step=self.state.step)
        self._tell_changes()
        self._began = time.monotonic() - self.state.seconds
        if self.loaded.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        return self.state

    def save(self) -> None:
        """Write a checkpoint, remove those that are not kept, tell."""
        self._clock()
        self._saved = (self.state.step, self.state.evaluated)
        if not self._ranks.is_first:
            return
        self.emitter.phase("training", step=self.state.step, within="saving")
        path = checkpoints.save(self.folder, self.loaded, self.optimizer, self.state)
        if not Watcher.remembering(self.state.watched).is_worried:  # or the good ones would go
            checkpoints.prune(self.folder, keep=self.job.run.config.checkpoints.keep)
        tell_checkpoint(self.emitter, path, self.state)

    def save_if_due(self) -> None:
        """Write a checkpoint where the timetable has one that is not there yet."""
        is_there = self._saved == (self.state.step, self.state.evaluated)
        if self.times.saves(self.state) and not is_there:
            self.save()

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.times.rate(self.state.step) * self.state.rate_factor

    @property
    def batch_size(self) -> int:
        """How many rows are trained at once: the spec's number, or what memory did for."""
        return self.state.batch_size or self.job.run.config.training.batch_size

    def halve_or_raise(self, error: Exception) -> None:
        """After a full memory go on with half the batch, once; the step is as large as before.

        Nothing was changed when gradients were being made, so the step is simply made again. Any
        other error, a second one, and one that tore the weights are raised.
        """
        full = classify(error) is FailureKind.OUT_OF_MEMORY and not isinstance(error, TornStep)
        full &= self._ranks.count == 1  # the others are in the middle of the step
        if not full or self.state.batch_size is not None or self.batch_size == 1:
            raise error
        evidence = (str(error).strip().splitlines() or [type(error).__name__])[0]
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that fill the memory
        self.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self.loaded.device == "cuda":
            torch.cuda.empty_cache()
        before, self.state.batch_size = self.batch_size, self.batch_size // 2
        text = (
            f"Out of memory in step {self.state.step + 1}: batches of {self.state.batch_size} "
            f"instead of {before} from here on, summed up to the same step. ({evidence[:300]})"
        )
        self.emitter.alert("out_of_memory", text)

    def leave_if_asked(self, mode: Leave | None) -> None:
        """Raise ``Stopped`` if a stop was asked for, with the work kept as it wishes."""
        if mode is None:
            return
        step = self.state.step
        if mode is not Leave.CANCEL and step % self.times.save_every and step:
            self.save()
        if mode is Leave.SAVE and self._ranks.is_first:
            results.finish(
                self.job,
                folder=self.folder,
                loaded=self.loaded,
                state=self.state,
                emitter=self.emitter,
            )
        raise Stopped(mode)

    def tell_step(self, figures: dict[str, float | None], *, tokens: int, seconds: float) -> None:
        """Tell a step's own figures and those that every step has; fail if it went to nowhere.

        ``figures`` has at least train/loss, train/learning_rate and train/grad_norm; ``tokens`` and
        ``seconds`` are the step's. The state's step counts this one already.
        """
        state = self.state
        state.tokens += tokens
        state.loss = figures["train/loss"]
        always = {
            "train/tokens": state.tokens,
            "train/tokens_per_second": tokens / seconds,
            "device/memory_used": memory_used(self.loaded.device),
        }
        self.emitter.metrics({**figures, **always}, step=state.step)
        watcher = Watcher.remembering(state.watched)
        trouble = watcher.look(
            self.job.run.config.watch,
            step=state.step,
            loss=figures["train/loss"],
            norm=figures["train/grad_norm"],
        )
        state.watched = watcher.remembered()
        if trouble:
            self._react(trouble, f"learning rate {figures['train/learning_rate']:.3g}")

    def _react(self, trouble: Trouble, rate: str) -> None:
        """Tell of trouble, go back to before it, or fail."""
        wish = self.job.run.config.watch.on_trouble
        if wish == "alert" and not trouble.is_end:
            self.emitter.alert(trouble.code, f"{trouble.text}, {rate}.")
            return
        good = checkpoints.before(self.folder, trouble.since)
        if wish != "rollback" or good is None or self.state.rate_factor < 1:
            raise TrainerError(FailureKind.DIVERGED, f"{trouble.text}, {rate}")
        self._roll_back(good, trouble)

    def _roll_back(self, good: Path, trouble: Trouble) -> None:
        vars(self.state).update(vars(checkpoints.restore(good, self.loaded, self.optimizer)))
        self._ranks.meet()  # before the first one saves, and may remove what the others read
        state = self.state
        state.rate_factor, state.watched = 0.5, None
        self.emitter.phase("resumed", step=state.step)
        text = (
            f"{trouble.text}. Back to step {state.step}, with half the learning rate from here on."
        )
        self.emitter.alert("rolled_back", text)
        self.emitter.phase("training", step=state.step, total_steps=self.times.total)
        self.save()  # so that a run that is killed now goes on with half the rate too

    def tell_validation(self, loss: float, figures: dict[str, float | None]) -> None:
        """Tell a validation; remember the best. ``figures`` are told with it, the loss among them.

        Where it only gets worse, that is told, and ends the run if the spec says so.
        """
        state, plan = self.state, self.job.run.config.watch
        self.emitter.metrics(figures, step=state.step)
        state.note_validation(loss)
        watcher = Watcher.remembering(state.watched)
        trouble = watcher.look_at_validation(plan, step=state.step, loss=loss)
        state.watched = watcher.remembered()
        if trouble:
            self.emitter.alert(trouble.code, f"{trouble.text}.")
            state.given_up = plan.on_trouble == "stop"

    def conclude(self) -> None:
        """Put the best weights back if it gave up, and write the result."""
        self._clock()
        state = self.state
        best = checkpoints.best(self.folder) if self.times.gives_up(state) else None
        if best is not None and best.name != f"step-{state.step}":
            step = checkpoints.read(best)["step"]
            text = f"No better validation since step {step}; stopped, and its weights are kept."
            self.emitter.alert("early_stop", text)
            checkpoints.load_adapter(best, self.loaded)
        if self._ranks.is_first:
            results.save_result(
                self.job, folder=self.folder, loaded=self.loaded, state=state, emitter=self.emitter
            )

    def _tell_changes(self) -> None:
        """Tell what is not as it was in the last step, and remember what is now."""
        plan = self.job.run.config.training
        now = {field: getattr(plan, field) for field in MAY_CHANGE}
        before = self.state.settings or now
        changes = [
            f"{field} {before.get(field)} → {value}"
            for field, value in now.items()
            if before.get(field) != value
        ]
        if before["batch_size"] != now["batch_size"]:
            self.state.batch_size = None
        if before["learning_rate"] != now["learning_rate"]:
            self.state.rate_factor = 1.0
        if changes:
            text = f"From step {self.state.step + 1} on: {', '.join(changes)}."
            self.emitter.alert("settings_changed", text)
        self.state.settings = now

    def _clock(self) -> None:
        self.state.seconds = time.monotonic() - self._began


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
