"""Tries a run before it starts: ``python -m worker.trainer preflight FOLDER``.

Reads ``spec.json`` and ``ask.json`` ({"mode", "memory_bytes"?}), does a few real steps in processes
of their own (see ``trial``), and writes ``preflight.json``: what was measured of the settings as
asked, and which smallest change makes them fit or which settings are best for a purpose. A run with
``fit`` does the same before it loads its model. Knows neither database nor network.
"""

import json
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.jobs.events import EventType
from app.jobs.state import EXIT_CODES, EXIT_DONE, FailureKind
from app.runs.spec import RunConfig, TrainerJob
from app.runs.trying import QUANTIZATION, Ask, Mode, worded
from worker.trainer import attempt, autotuning, failures, fitting, trial
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.files import write_whole
from worker.trainer.fitting import Changes
from worker.trainer.stopping import Stop, Stopped

FILE_NAME = "preflight.json"
FOLDER = "trials"
_MOST_TRIALS = 12
_TICK = 0.05
_KILLED = -9  # by the kernel, for memory


@dataclass(frozen=True)
class Trial:
    """One try: the changes to what was asked, and what was measured."""

    changes: Changes
    measured: dict[str, Any]

    @property
    def fits(self) -> bool:
        """Tell whether the steps could be done."""
        return bool(self.measured["fits"])

    @property
    def speed(self) -> float:
        """Tokens a second; 0 where nothing could be done."""
        return float(self.measured.get("tokens_per_second") or 0.0) if self.fits else 0.0

    @property
    def memory(self) -> int:
        """The peak in bytes."""
        return int(self.measured["held_bytes"])


@dataclass(frozen=True)
class Found:
    """All tries, the first with the settings as asked, and which of them is proposed."""

    mode: Mode
    trials: list[Trial] = field(default_factory=list[Trial])
    chosen: int | None = None

    @property
    def changes(self) -> Changes:
        """Return the proposed changes; none where the settings as asked are proposed."""
        return self.trials[self.chosen].changes if self.chosen is not None else {}

    def as_json(self) -> dict[str, Any]:
        """Return what preflight.json holds."""
        return {
            "mode": self.mode.value,
            "fits": self.trials[0].fits,
            "trials": [asdict(one) for one in self.trials],
            "chosen": self.chosen,
            "changes": self.changes,
        }


def main(folder: Path) -> int:
    """Do the preflight that the folder asks for; return the exit code."""
    stop, emitter = Stop(folder), Emitter(folder)
    stop.listen()
    config: RunConfig | None = None
    try:
        job = attempt.read_job(folder)
        config = job.run.config
        attempt.prepare_environment(config)
        ask = Ask.model_validate_json((folder / trial.ASK_NAME).read_bytes())
        found = search(job, ask, folder=folder, emitter=emitter, stop=stop)
        write_whole(folder / FILE_NAME, json.dumps(found.as_json()).encode())
        emitter.log(summary(found))
    except Stopped as stopped:
        emitter.log(f"Stopped as asked ({stopped.mode}).")
        return stopped.exit_code
    except BaseException as error:
        traceback.print_exception(error)
        failure = failures.describe(error, config)
        emitter.failure(failure.kind, evidence=failure.evidence, detail=failure.detail)
        return EXIT_CODES[failure.kind]
    finally:
        emitter.close()
    return EXIT_DONE


def search(job: TrainerJob, ask: Ask, *, folder: Path, emitter: Emitter, stop: Stop) -> Found:
    """Try the settings as asked, then what makes them fit, or what the purpose wants."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    bench = _Bench(job, ask, folder, emitter, stop)
    bench.attempt({})
    if ask.mode is Mode.CHECK:
        return _fitted(bench)
    while len(bench.trials) < _MOST_TRIALS:
        wanted = autotuning.proposed(
            job.run.config, bench.trials, mode=ask.mode, device=job.device, fixed=_fixed(job)
        )
        if wanted is None:
            break
        bench.attempt(wanted)
    if not any(one.fits for one in bench.trials):
        return _fitted(bench)
    return Found(ask.mode, bench.trials, autotuning.best(bench.trials, ask.mode))


def _fixed(job: TrainerJob) -> tuple[str, ...]:
    """Return the fields that the model's files decide: those in 4 bits stay so."""
    config = json.loads((Path(job.base_model_folder) / "config.json").read_bytes())
    return (QUANTIZATION,) if config.get("quantization_config") else ()


def _fitted(bench: "_Bench") -> Found:
    """Make one change after the other, the smallest first, until the steps can be done."""
    job, mode = bench.job, bench.ask.mode
    changes: Changes = dict(bench.trials[-1].changes)
    while not bench.trials[-1].fits and len(bench.trials) < _MOST_TRIALS:
        config = fitting.applied(job.run.config, changes)
        more = fitting.smaller(config, device=job.device)
        if more is None:
            break
        changes = {**changes, **more}
        bench.attempt(changes)
    fits = bench.trials[-1].fits
    return Found(mode, bench.trials, len(bench.trials) - 1 if fits else None)


@dataclass
class _Bench:
    """Runs tries one after the other and remembers them."""

    job: TrainerJob
    ask: Ask
    folder: Path
    emitter: Emitter
    stop: Stop
    trials: list[Trial] = field(default_factory=list[Trial])

    def attempt(self, changes: Mapping[str, Any]) -> None:
        """Try the run with ``changes``. Raises what keeps it from running for another reason."""
        self.stop.check()
        number = len(self.trials) + 1
        words = worded(changes)
        self.emitter.phase("trying", detail=words, trial=number)
        folder = self.folder / FOLDER / str(number)
        folder.mkdir(parents=True)
        config = fitting.applied(self.job.run.config, changes)
        run = self.job.run.model_copy(update={"config": config})
        job = self.job.model_copy(update={"run": run})
        (folder / "spec.json").write_text(job.model_dump_json())
        (folder / trial.ASK_NAME).write_text(self.ask.model_dump_json())
        code = self._child(folder)
        measured = _result(folder, code)
        self.trials.append(Trial(dict(changes), measured))
        self.emitter.log(f"Tried {words}: {told(measured)}")

    def _child(self, folder: Path) -> int:
        """Run one try to its end; a stop ends it."""
        command = [sys.executable, "-m", "worker.trainer", "trial", str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            while (code := process.poll()) is None:
                self.stop.check()
                time.sleep(_TICK)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return code


def _result(folder: Path, code: int) -> dict[str, Any]:
    """Return what a try wrote; raise its failure where that is not its memory."""
    file = folder / trial.FILE_NAME
    if code == EXIT_DONE and file.is_file():
        return json.loads(file.read_bytes())
    if code == _KILLED:
        return asdict(trial.Measured(False, "the kernel ended the try: no memory was left"))
    kinds = {number: kind for kind, number in EXIT_CODES.items()}
    text = _evidence(folder) or f"the try ended with exit code {code}; see the log"
    raise TrainerError(kinds.get(code, FailureKind.INTERNAL), text)


def _evidence(folder: Path) -> str | None:
    try:
        lines = (folder / "events.jsonl").read_text().splitlines()
    except OSError:
        return None
    events = [json.loads(line) for line in lines]
    failed = [event for event in events if event["type"] == EventType.FAILURE.value]
    return str(failed[-1]["values"]["evidence"]) if failed else None


def told(measured: Mapping[str, Any]) -> str:
    """Return a try in words."""
    if not measured["fits"]:
        return f"it does not fit ({measured['reason']})."
    held = measured["held_bytes"] / 2**30
    return f"{held:.2f} GiB at most, {measured['tokens_per_second'] or 0:,.0f} tokens/s."


def summary(found: Found) -> str:
    """Return the preflight in a sentence."""
    if found.chosen is None:
        return "Nothing that was tried fits."
    if not found.changes:
        return "The settings as asked fit and are kept."
    return f"Proposed: {worded(found.changes)}."
