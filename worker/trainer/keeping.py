"""A run that is kept: found again where it was, saved, pruned, told, left as asked.

The same for every recipe, which asks at the top of its loop. Knows nothing of how a step is made;
what a checkpoint holds is ``checkpoints``' business.
"""

import math
import time
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
from worker.trainer.failures import TrainerError
from worker.trainer.files import folder_bytes
from worker.trainer.loading import Loaded
from worker.trainer.schedule import Timetable
from worker.trainer.stopping import Leave, Stop, Stopped


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
    ) -> None:
        self.job, self.folder, self.times = job, folder, times
        self.loaded, self.optimizer, self.emitter = loaded, optimizer, emitter
        self.state = State("")
        self._began = time.monotonic()

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
        else:
            checkpoints.clear(self.folder)
        if self.emitter.goes_on:
            self.emitter.phase("resumed", step=self.state.step)
        self._began = time.monotonic() - self.state.seconds
        if self.loaded.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        return self.state

    def save(self) -> None:
        """Write a checkpoint, remove those that are not kept, tell."""
        self._clock()
        path = checkpoints.save(self.folder, self.loaded, self.optimizer, self.state)
        keep, best = self.job.run.config.checkpoints.keep, self.state.best_step
        checkpoints.prune(self.folder, keep=keep, best_step=best)
        tell_checkpoint(self.emitter, path, self.state)

    def save_if_due(self) -> None:
        """Write a checkpoint where the timetable has one."""
        if self.times.saves(self.state):
            self.save()

    def leave_if_asked(self, stop: Stop) -> None:
        """Raise ``Stopped`` if a stop was asked for, with the work kept as it wishes."""
        mode = stop.mode
        if mode is None:
            return
        step = self.state.step
        if mode is not Leave.CANCEL and step % self.times.save_every and step:
            self.save()
        if mode is Leave.SAVE:
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
        loss, norm = figures["train/loss"], figures["train/grad_norm"]
        if not all(math.isfinite(one) for one in (loss, norm) if one is not None):
            rate = figures["train/learning_rate"]
            text = f"step {state.step}: loss {loss}, gradient norm {norm}, learning rate {rate:.3g}"
            raise TrainerError(FailureKind.DIVERGED, text)

    def tell_validation(self, loss: float, figures: dict[str, float | None]) -> None:
        """Tell a validation; remember the best. ``figures`` are told with it, the loss among them."""
        self.emitter.metrics(figures, step=self.state.step)
        self.state.note_validation(loss)

    def conclude(self) -> None:
        """Put the best weights back if it gave up, and write the result."""
        self._clock()
        state = self.state
        best = state.best_step
        if self.times.gives_up(state) and best is not None and best != state.step:
            text = f"No better validation since step {best}; stopped."
            self.emitter.alert("early_stop", text)
            checkpoints.load_adapter(self.folder / "checkpoints" / f"step-{best}", self.loaded)
        results.save_result(
            self.job, folder=self.folder, loaded=self.loaded, state=state, emitter=self.emitter
        )

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
