"""Tries a run on its device before it is launched: queue it, say how it stands, keep the result.

Knows no HTTP and nothing of how a try is made: the trainer does, see ``worker.trainer.preflight``.
A run that tries itself (``config.fit``) brings its result here too.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.roles import Actor, require_owner, require_write
from app.basemodels.models import BaseModelRow
from app.datasets.models import DatasetVersion
from app.errors import Invalid, NotFound
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.state import JobKind, JobStatus, StopMode
from app.kit.clock import utc_now
from app.kit.ids import new_id
from app.kit.schemas import finite
from app.preflights import repository
from app.preflights.models import Preflight
from app.queue import Lane
from app.runs import planning
from app.runs.objectives import KINDS
from app.runs.presets import flat, nested
from app.runs.schemas import RunRequest
from app.runs.spec import RunConfig, RunSpec, TrainerJob
from app.runs.trying import Mode, worded
from app.settings import Settings

FILE_NAME = "preflight.json"
PRIORITY = 1  # it takes a minute, and someone waits for it: before runs of normal priority


@dataclass(frozen=True)
class Trial:
    """One setting that was tried; ``measured`` are the trainer's own names."""

    changes: dict[str, Any]
    measured: dict[str, Any]

    @property
    def words(self) -> str:
        """Return the changes in words."""
        return worded(self.changes)

    @property
    def fits(self) -> bool:
        """Tell whether its steps could be done."""
        return bool(self.measured.get("fits"))

    def __getitem__(self, name: str) -> Any:
        """Return what was measured under a name, or None."""
        return self.measured.get(name)


@dataclass(frozen=True)
class View:
    """How a preflight stands. Without a result ``trials`` are empty."""

    preflight: Preflight
    job: Job
    version: DatasetVersion
    doing: str | None
    waiting_reason: str | None
    trials: list[Trial] = field(default_factory=list[Trial])
    chosen: int | None = None

    @property
    def status(self) -> str:
        """Return running, ready or failed."""
        if self.preflight.result is not None:
            return "ready"
        return "failed" if self.preflight.failure is not None else "running"

    @property
    def asked(self) -> Trial | None:
        """What was measured of the settings as asked."""
        return self.trials[0] if self.trials else None

    @property
    def proposed(self) -> Trial | None:
        """What is proposed; None where nothing that was tried fits."""
        return self.trials[self.chosen] if self.chosen is not None else None

    @property
    def spec(self) -> RunSpec:
        """What was tried."""
        return RunSpec.model_validate(self.preflight.spec)


def create(session: Session, *, actor: Actor, request: RunRequest, mode: Mode) -> Preflight:
    """Queue a try of a run. Raises what a launch of it would raise."""
    require_write(actor)
    plan = planning.planned(session, request)
    spec = plan.spec
    objective = spec.config.objective
    if not KINDS[objective].can_be_tried:
        text = f"{objective.value} cannot be tried on a device; launch it"
        raise Invalid.field("config.objective", text)
    preflight_id = new_id("pre")
    job = jobs.submit(
        session,
        kind=JobKind.PREFLIGHT,
        lane=Lane.DEVICES,
        title=f"Try {spec.name}"[:120],
        subject_id=preflight_id,
        owner_id=actor.id,
        priority=PRIORITY,
        device_kind=spec.resources.kind,
        devices_needed=1,
    )
    made = Preflight(
        id=preflight_id,
        job_id=job.id,
        owner_id=actor.id,
        dataset_version_id=plan.chosen.version.id,
        base_model_id=plan.chosen.model.id,
        mode=mode.value,
        spec=spec.model_dump(mode="json"),
    )
    session.add(made)
    session.flush()
    auth.audit(
        session,
        actor=actor,
        action="preflight.create",
        subject_type="preflight",
        subject_id=made.id,
        detail={"name": spec.name, "mode": mode.value},
    )
    return made


def get(session: Session, preflight_id: str) -> Preflight:
    """Return a preflight or raise ``NotFound``."""
    found = session.get(Preflight, preflight_id)
    if found is None:
        raise NotFound("There is no such preflight. Its dataset or model may be gone.")
    return found


def view(session: Session, preflight_id: str) -> View:
    """Return how a preflight stands."""
    return _view(session, get(session, preflight_id))


def find(session: Session, preflight_id: str) -> View | None:
    """Return how a preflight stands, or None if there is none."""
    found = session.get(Preflight, preflight_id)
    return _view(session, found) if found else None


def stop(session: Session, *, actor: Actor, preflight_id: str) -> None:
    """Give a preflight up; whatever it has tried by then is dropped."""
    found = get(session, preflight_id)
    require_owner(actor, found.owner_id)
    jobs.request_stop(session, job_id=found.job_id, mode=StopMode.CANCEL)
    if jobs.get(session, found.job_id).status == JobStatus.CANCELLED:
        give_up(session, preflight_id=preflight_id, reason="Stopped before it began.")


def of_run(session: Session, *, run_id: str) -> View | None:
    """Return what was tried of a run, or None."""
    found = repository.of_run(session, run_id)
    return _view(session, found) if found else None


def _view(session: Session, found: Preflight) -> View:
    job = jobs.get(session, found.job_id)
    result = found.result or {}
    return View(
        preflight=found,
        job=job,
        version=session.get_one(DatasetVersion, found.dataset_version_id),
        doing=_doing(session, job),
        waiting_reason=jobs.waiting_reason(session, job),
        trials=[Trial(one["changes"], one["measured"]) for one in result.get("trials", [])],
        chosen=result.get("chosen"),
    )


def _doing(session: Session, job: Job) -> str | None:
    """Return which setting is tried now, in words."""
    if not JobStatus(job.status).is_live:
        return None
    return repository.last_trial(session, job.id)


def trainer_job(
    session: Session, settings: Settings, *, preflight_id: str, device: Literal["cpu", "cuda"]
) -> TrainerJob:
    """Return what a trainer on this machine needs to try a run."""
    found = get(session, preflight_id)
    inputs = planning.Inputs(
        RunSpec.model_validate(found.spec),
        session.get_one(DatasetVersion, found.dataset_version_id),
        session.get_one(BaseModelRow, found.base_model_id),
    )
    today = found.created_at.date()
    return planning.trainer_job(
        session, settings, inputs, job_id=found.job_id, today=today, device=device
    )


def finish(session: Session, *, preflight_id: str, folder: Path) -> None:
    """Keep what was measured."""
    found = get(session, preflight_id)
    found.result = finite(json.loads((folder / FILE_NAME).read_bytes()))
    found.failure, found.finished_at = None, utc_now()


def give_up(session: Session, *, preflight_id: str, reason: str) -> None:
    """Say why nothing could be measured."""
    found = session.get(Preflight, preflight_id)
    if found is not None and found.result is None:
        found.failure, found.finished_at = reason, utc_now()


def attach(
    session: Session, *, actor: Actor, preflight_id: str, run_id: str, spec: RunSpec
) -> None:
    """Remember that a run was tried before, if what was tried is what runs."""
    found = session.get(Preflight, preflight_id)
    if found is None or found.run_id is not None or not actor.owns(found.owner_id):
        return
    if is_of(found, spec):
        found.run_id = run_id


def is_of(preflight: Preflight, spec: RunSpec) -> bool:
    """Tell whether a preflight tried, or proposes, what ``spec`` would run."""
    tried = RunSpec.model_validate(preflight.spec)
    if (tried.dataset, tried.base_model) != (spec.dataset, spec.base_model):
        return False
    changes = (preflight.result or {}).get("changes", {})
    return spec.config in (tried.config, _changed(tried.config, changes))


def _changed(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(nested({**flat(config), **changes}))


def store_of_run(session: Session, *, job_id: str, folder: Path) -> None:
    """Keep what a run tried of itself, and give its spec the settings that it trains with."""
    run = repository.run_of_job(session, job_id)
    if run is None or not (folder / FILE_NAME).is_file():
        return
    result: dict[str, Any] = finite(json.loads((folder / FILE_NAME).read_bytes()))
    spec = RunSpec.model_validate(run.spec)
    session.add(
        Preflight(
            id=new_id("pre"),
            job_id=job_id,
            run_id=run.id,
            owner_id=run.owner_id,
            dataset_version_id=run.dataset_version_id,
            base_model_id=run.base_model_id,
            mode=result.get("mode", Mode.CHECK.value),
            spec=run.spec,
            result=result,
            finished_at=utc_now(),
        )
    )
    changes: dict[str, Any] = result.get("applied") or {}
    if changes:
        config = _changed(spec.config, changes)
        run.spec = spec.model_copy(update={"config": config}).model_dump(mode="json")
        sentence = "Changed by the preflight, so that the run fits into the device's memory."
        run.reasons = run.reasons | dict.fromkeys(changes, sentence)
