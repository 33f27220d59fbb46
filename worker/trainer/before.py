"""What a run tries of itself before it starts, by ``config.fit``: it fits, is changed, or ends here.

What was changed stands in ``fit.json`` of the job's folder, so that every later attempt trains with
the same settings and tries nothing again. Knows how a try is asked for, not how it is made.
"""

import json
from pathlib import Path
from typing import Any

from app.jobs.state import FailureKind
from app.runs.presets import flat
from app.runs.spec import Objective, RunConfig, TrainerJob
from app.runs.trying import Ask, Mode, worded
from worker.trainer import fitting, preflight, trial
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.files import write_whole
from worker.trainer.fitting import Changes
from worker.trainer.preflight import Found
from worker.trainer.stopping import Stop

FILE_NAME = "fit.json"
CHECK, AUTOMATIC = "check", "automatic"


def settle(job: TrainerJob, *, folder: Path, emitter: Emitter, stop: Stop) -> TrainerJob:
    """Return the job with the settings that it trains with; fail here if none fits."""
    config = job.run.config
    if config.fit == "off" or config.objective is Objective.SIMULATED:
        return job
    if job.fresh:
        (folder / FILE_NAME).unlink(missing_ok=True)
    elif (folder / FILE_NAME).is_file():
        return settled(job, folder)
    mode = Mode.CHECK if config.fit in {CHECK, AUTOMATIC} else Mode(config.fit)
    ask = Ask(mode=mode, memory_bytes=trial.limit(folder))
    found = preflight.search(job, ask, folder=folder, emitter=emitter, stop=stop)
    changes = {} if config.fit == CHECK else found.changes
    told = {**found.as_json(), "applied": changes}
    write_whole(folder / preflight.FILE_NAME, json.dumps(told).encode())
    emitter.phase("tried")
    _fail_unless_it_fits(found, changes)
    before = {field: flat(config)[field] for field in changes}
    kept = json.dumps({"before": before, "changes": changes})
    write_whole(folder / FILE_NAME, kept.encode())
    if changes:
        emitter.alert("fitted", _sentence(found, changes))
    return settled(job, folder)


def _fail_unless_it_fits(found: Found, changes: Changes) -> None:
    if found.chosen is None:
        text = "nothing that was tried fits; choose a smaller base model or shorter examples"
        raise TrainerError(FailureKind.OUT_OF_MEMORY, f"{_reason(found)}; {text}")
    if not found.trials[0].fits and not changes:
        text = f"{_reason(found)}; it fits with {worded(found.changes)}"
        raise TrainerError(FailureKind.OUT_OF_MEMORY, text, changes=found.changes)


def _reason(found: Found) -> str:
    return f"The preflight did not fit: {found.trials[0].measured['reason']}"


def _sentence(found: Found, changes: Changes) -> str:
    """Say what was changed and why, for the run's page."""
    why = "it finds faster or smaller settings" if found.trials[0].fits else "it did not fit"
    return f"Changed before the start, since {why}: {worded(changes)}."


def settled(job: TrainerJob, folder: Path) -> TrainerJob:
    """Return the job with what was changed before; a value that a user has set since stays."""
    try:
        kept: dict[str, Any] = json.loads((folder / FILE_NAME).read_bytes())
    except FileNotFoundError:
        return job
    now = flat(job.run.config)
    wanted = {
        field: value
        for field, value in kept["changes"].items()
        if now.get(field) == kept["before"][field]
    }
    return _with(job, fitting.applied(job.run.config, wanted))


def _with(job: TrainerJob, config: RunConfig) -> TrainerJob:
    return job.model_copy(update={"run": job.run.model_copy(update={"config": config})})
