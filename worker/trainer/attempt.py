"""One attempt of a run: ``python -m worker.trainer train JOB_FOLDER``.

Reads ``spec.json``, appends ``events.jsonl``, writes checkpoints, adapter and report into the same
folder. Knows neither database nor broker nor HTTP. Exit codes are those of ``app.jobs.state``.
"""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from app.basemodels.facts import shape_of
from app.jobs.state import EXIT_CODES, EXIT_DONE, FailureKind
from app.runs import engines
from app.runs.spec import Objective, RunConfig, TrainerJob
from worker.trainer import determinism, failures, provenance, ranks
from worker.trainer.emitter import Emitter, Silent
from worker.trainer.stopping import Stop, Stopped, leave_it_to

RECIPES = "worker.trainer.recipes"  # has a module for each objective; most import torch


def attempt(folder: Path) -> int:
    """Train what the folder's spec.json asks for; every error becomes a failure event."""
    stop = Stop(folder)
    stop.listen()
    emitter = Emitter(folder)
    config: RunConfig | None = None
    try:
        job = read_job(folder)
        config = job.run.config
        job = settled(job, folder=folder, emitter=emitter, stop=stop)
        config = job.run.config
        train(job, folder=folder, emitter=emitter, stop=stop)
    except Stopped as stopped:
        emitter.log(f"Stopped as asked ({stopped.mode}).")
        return stopped.exit_code
    except BaseException as error:
        return fail(error, config=config, emitter=emitter)
    finally:
        emitter.close()
    return EXIT_DONE


def read_job(folder: Path) -> TrainerJob:
    """Return the folder's job; refuse one that does not fit the schema, naming the field."""
    try:
        return TrainerJob.model_validate_json((folder / "spec.json").read_bytes())
    except FileNotFoundError:
        text = f"{folder / 'spec.json'} is missing"
        raise failures.TrainerError(FailureKind.INTERNAL, text) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        text = f"spec.json does not fit at {place or 'its top'}: {first['msg']}"
        raise failures.TrainerError(FailureKind.INTERNAL, text) from None


def settled(job: TrainerJob, *, folder: Path, emitter: Emitter, stop: Stop) -> TrainerJob:
    """Return the job as it trains: with what a preflight changes of it, if it asks for one."""
    if job.run.config.fit == "off":
        return job
    prepare_environment(job.run.config)
    from worker.trainer import before  # it starts this program again, for each try

    return before.settle(job, folder=folder, emitter=emitter, stop=stop)


def train(job: TrainerJob, *, folder: Path, emitter: Emitter, stop: Stop) -> None:
    """Run the recipe of the job's objective. Each recipe is imported only when it is asked for."""
    if job.run.config.objective is Objective.SIMULATED:
        from worker.trainer.recipes import simulated  # starts without torch

        simulated.train(job, folder=folder, emitter=emitter, stop=stop)
        return
    prepare_environment(job.run.config)
    emitter.phase("loading", ran_with=provenance.ran_with(job))

    def failed(told: ranks.Told) -> None:
        """End here too, with what another rank died of: this one may wait for it for ever."""
        kind, evidence, detail = told
        changes = failures.changes_for(FailureKind(kind), job.run.config)
        emitter.failure(FailureKind(kind), evidence=evidence, detail=detail, changes=changes)
        os._exit(EXIT_CODES[FailureKind(kind)])

    with ranks.led(folder, job.run.resources.devices, failed=failed) as own:
        _recipe(job, folder=folder, emitter=emitter, stop=stop, own=own)


def _recipe(
    job: TrainerJob, *, folder: Path, emitter: Emitter, stop: Stop, own: ranks.Ranks
) -> None:
    import_unsloth(job)
    recipe = importlib.import_module(f"{RECIPES}.{job.run.config.objective.value}")
    recipe.train(job, folder=folder, emitter=emitter, stop=stop, ranks=own)


def import_unsloth(job: TrainerJob) -> None:
    """Import Unsloth where it trains: before transformers, which it changes, and nowhere else.

    What it changes fails elsewhere: Gemma 3 in 16 bits by PEFT, for one.
    """
    config, path = job.run.config, Path(job.base_model_folder) / "config.json"
    if job.device != "cuda":
        return
    try:
        told = json.loads(path.read_bytes())
        shape = shape_of(told.get("text_config", told))
    except (OSError, ValueError, AttributeError):  # it is said when the model is loaded
        return
    if engines.choose(config, device_kind=job.device, shape=shape).engine == engines.UNSLOTH:
        importlib.import_module("unsloth")


def follow(folder: Path, rank: int, count: int) -> int:
    """Train a share of every step of a run that another process leads; return the exit code."""
    leave_it_to(os.getppid())
    config: RunConfig | None = None
    try:
        job = read_job(folder)
        prepare_environment(job.run.config)
        if job.run.config.fit != "off":
            from worker.trainer import before

            job = before.settled(job, folder)
        config = job.run.config
        own, stop = ranks.Ranks(rank, count), Stop(folder)
        _recipe(job, folder=folder, emitter=Silent(), stop=stop, own=own)
    except Stopped:
        return EXIT_DONE
    except BaseException as error:
        traceback.print_exception(error)
        failure = failures.describe(error, config)
        ranks.write_failure(folder, rank, (failure.kind, failure.evidence, failure.detail))
        return EXIT_CODES[failure.kind]
    return EXIT_DONE


def prepare_environment(config: RunConfig) -> None:
    """Set what the training libraries read once, when they are imported or CUDA starts."""
    environment = os.environ  # noqa: TID251  # torch has no other door for these
    threads = environment.get("TUNEBOX_TRAINER_THREADS") or str(os.cpu_count() or 1)
    fixed = {
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve the server beside us
        "OMP_NUM_THREADS": threads,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "UNSLOTH_COMPILE_LOCATION": str(Path.home() / ".cache" / "tunebox" / "unsloth"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    environment.update(fixed | determinism.environment(config))


def fail(error: BaseException, *, config: RunConfig | None, emitter: Emitter) -> int:
    """Tell the failure, print its traceback to the log; return its exit code."""
    traceback.print_exception(error)
    failure = failures.describe(error, config)
    try:
        emitter.failure(
            failure.kind, evidence=failure.evidence, detail=failure.detail, changes=failure.changes
        )
    except OSError as full:  # the disk that failed us holds the event file too
        print(f"The failure could not be written: {full}", file=sys.stderr)
    return EXIT_CODES[failure.kind]
