"""From a request to the complete spec of a run, and from a spec to what a trainer needs of it.

Shared by a launch and a preflight, so that what is tried is what would run. Queues nothing. Knows
no HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.basemodels.models import BaseModelRow
from app.datasets import splits
from app.datasets.models import DatasetVersion
from app.errors import Invalid
from app.kit.storage import model_folder
from app.runs import inputs, launching, presets
from app.runs.launching import Chosen
from app.runs.schemas import RunRequest
from app.runs.spec import DatasetRef, Objective, Resources, RunConfig, RunSpec, TrainerJob
from app.settings import Settings, get_settings


@dataclass(frozen=True)
class Planned:
    """What would run, of what, and why each field has its value."""

    spec: RunSpec
    chosen: Chosen
    reasons: dict[str, str]


def planned(session: Session, request: RunRequest) -> Planned:
    """Return the run that is asked for.

    Raises ``Invalid`` by field, or ``Conflict`` while its inputs are not ready.
    """
    given, errors = launching.checked(launching.flattened(request.config))
    if errors:
        raise launching.invalid(errors)
    chosen = launching.choose(
        session,
        dataset=request.dataset,
        base_model=request.base_model,
        kind=request.resources.kind,
    )
    launching.require_devices(session, request.resources.devices, kind=chosen.device_kind)
    resolved = _resolved(request, given, chosen)
    return Planned(_spec(request, chosen, resolved), chosen, resolved.reasons)


def _resolved(request: RunRequest, given: Mapping[str, Any], chosen: Chosen) -> presets.Resolved:
    simulated = given.get("objective") == Objective.SIMULATED
    if simulated and not get_settings().allow_simulated:
        raise Invalid.field(
            "config.objective",
            "simulated runs are for tests; start Tunebox with TUNEBOX_ALLOW_SIMULATED=1",
        )
    if not simulated:
        launching.require_ready(chosen, _as_given(given, chosen))
    resolved = presets.resolve(given, case=chosen.case(request.preset))
    errors = launching.contradictions(resolved.config, chosen=chosen)
    if errors:
        raise launching.invalid(errors)
    return resolved


def _as_given(given: Mapping[str, Any], chosen: Chosen) -> RunConfig:
    objective = presets.objective_for(chosen.rows)[0]
    return RunConfig.model_validate(presets.nested({"objective": objective, **given}))


def _spec(request: RunRequest, chosen: Chosen, resolved: presets.Resolved) -> RunSpec:
    return RunSpec(
        name=checked_name(request.name) or default_name(chosen),
        dataset=DatasetRef(id=chosen.dataset.id, version=chosen.version.number),
        base_model=chosen.model.id,
        preset=request.preset,
        config=resolved.config,
        resources=Resources.model_validate(
            {"kind": chosen.device_kind, "devices": request.resources.devices}
        ),
        priority=request.priority,
        note=request.note,
    )


def checked_name(name: str | None) -> str:
    """Return a run's name without blanks around it; empty means that there is none yet."""
    name = (name or "").strip()
    if not name.isprintable():
        raise Invalid.field("name", "leave out control characters and line breaks")
    return name


def default_name(chosen: Chosen) -> str:
    """Return a name for a run that has none: its dataset's and its model's."""
    model = chosen.model.name.rsplit("/", 1)[-1]
    return f"{chosen.dataset.name[:70]}-{model[:48]}"


@dataclass(frozen=True)
class Inputs:
    """What a spec names, as it is stored here."""

    spec: RunSpec
    version: DatasetVersion
    model: BaseModelRow


def trainer_job(
    session: Session,
    settings: Settings,
    inputs_: Inputs,
    *,
    job_id: str,
    today: date,
    device: Literal["cpu", "cuda"],
) -> TrainerJob:
    """Return what a trainer on this machine needs; files that lie elsewhere are fetched."""
    spec = inputs_.spec
    if spec.config.objective is Objective.SIMULATED:
        return TrainerJob(run=spec, dataset_file="", base_model_folder="", device=device)
    return TrainerJob(
        run=spec,
        **inputs.files(
            settings,
            spec,
            inputs_.version,
            job_id=job_id,
            measured=splits.measured_version(session, split_id=spec.config.data.split),
        ),
        cache_folder=str(settings.data_folder / "tokens"),
        today=today,
        base_model_folder=str(model_folder(settings, inputs_.model.folder)),
        device=device,
    )
