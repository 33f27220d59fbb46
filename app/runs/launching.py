"""From what a user asks to a complete spec: what is chosen, what is allowed, what it resolves to.

Used by a launch and by the live form alike. Knows no HTTP; queues nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.basemodels import service as basemodels
from app.basemodels.facts import ModelFacts
from app.basemodels.models import BaseModelRow
from app.datasets import service as datasets
from app.datasets import splits
from app.datasets.formats.preference import PREFERENCE
from app.datasets.models import Dataset, DatasetVersion
from app.datasets.reading import Rows
from app.devices import service as devices
from app.errors import Conflict, FieldError, Invalid, NotFound
from app.kit.schemas import sentence
from app.kit.storage import get_storage
from app.runs import engines, objectives, presets
from app.runs.schemas import DatasetChoice
from app.runs.spec import Objective, Preset, RunConfig
from app.settings import get_settings

EXCLUDE = "data.exclude_problem_rows"


@dataclass(frozen=True)
class Chosen:
    """What a run is to be made of, and the device it is meant for."""

    dataset: Dataset
    version: DatasetVersion
    model: BaseModelRow
    device_kind: str
    memory_bytes: int | None
    splits: Mapping[str, float]  # of the version: id → share held out
    rows: objectives.Rows = "conversations"

    @property
    def facts(self) -> ModelFacts:
        """What presets and advice ask about the model."""
        return basemodels.facts_of(self.model)

    @property
    def examples(self) -> int:
        """How many rows can be trained."""
        return self.version.examples or 0

    def rows_for(self, objective: Objective) -> int:
        """Return how many rows an objective makes of the examples: kto both answers of a pair."""
        is_parted = objective is Objective.KTO and self.rows == "pairs"
        return self.examples * (2 if is_parted else 1)

    @property
    def mean_tokens(self) -> float | None:
        """The mean length of an example by its characters, four to a token; None if unknown."""
        statistics = self.version.statistics or {}
        total, rows = statistics.get("characters", {}).get("total"), statistics.get("rows")
        return total / rows / 4 if total and rows else None

    def case(self, preset: Preset) -> presets.Case:
        """Return what a preset is resolved for."""
        return presets.Case(
            preset,
            self.examples,
            self.facts,
            self.device_kind,
            self.memory_bytes,
            self.splits,
            self.rows,
        )


def choose(
    session: Session, *, dataset: str | DatasetChoice, base_model: str, kind: str = "auto"
) -> Chosen:
    """Find what is named; ``Invalid`` names the field of what there is not."""
    choice = DatasetChoice(id=dataset) if isinstance(dataset, str) else dataset
    try:
        view = datasets.get(session, dataset_id=choice.id)
        version = datasets.get_version(session, dataset_id=choice.id, number=choice.version)
    except NotFound as error:
        raise Invalid.field("dataset", f"{error.detail} Choose one from the list.") from error
    try:
        model = basemodels.get(session, model_id=base_model)
    except NotFound as error:
        raise Invalid.field("base_model", error.detail) from error
    found, size = device_for(session, kind)
    shares = splits.shares(session, version=version)
    return Chosen(view.dataset, version, model, found, size, shares, _rows_of(version))


def _rows_of(version: DatasetVersion) -> objectives.Rows:
    """Return what a version's rows hold, by its first good one."""
    if version.format != PREFERENCE.name:
        return "conversations"
    try:
        with Rows.open(get_storage(get_settings()), version) as rows:
            first = next(rows.good(), None)
    except Conflict:  # not checked yet
        return "pairs"
    return "pairs" if first is None or PREFERENCE.is_pair(first[1]) else "judged"


def device_for(session: Session, kind: str) -> tuple[str, int | None]:
    """Return the kind of device a run gets and the smallest memory of such devices, if known."""
    present = devices.present(session)
    if kind == "auto":
        kind = devices.best_kind(session) if present else "auto"
    sizes = [device.memory_bytes for device in present if device.kind == kind]
    return kind, min(sizes, default=None)


def require_devices(session: Session, count: int, *, kind: str) -> None:
    """Raise ``Invalid`` unless a box has so many devices of the kind a run gets."""
    if count == 1:
        return
    if kind == "cpu":
        raise Invalid.field("resources.devices", "a run on the CPU takes one device; use 1")
    most = devices.most_at_once(session, "cuda")
    if most < count:
        there = f"the largest has {most}" if most else "no worker offers one now"
        raise Invalid.field("resources.devices", f"no box has {count} NVIDIA cards; {there}")


def flattened(raw: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Return a partial configuration as dotted field → value as it was given."""
    found: dict[str, Any] = {}
    for name, value in raw.items():
        if isinstance(value, dict) and name != "simulate":
            found |= flattened(value, prefix=f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def checked(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what of ``raw`` (dotted field → value) is valid, and a message for what is not."""
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for field, value in raw.items():
        problem = _later(field, value)
        if problem:
            errors[field] = problem
            continue
        try:
            part = RunConfig.model_validate(presets.nested({field: value}))
        except ValidationError as error:
            errors[field] = _sentence(error)
        else:
            values |= presets.flat(part, only_set=True)
    return values, errors


def _later(field: str, value: Any) -> str | None:
    if problem := engines.not_yet(field, value):
        return problem
    if field == "evaluation.probe_prompts" and value:
        return "probe prompts are not available in this version; leave them out"
    if (
        field == "evaluation.suites"
        and isinstance(value, list | tuple)
        and set(value) - {"heldout"}
    ):
        return "only heldout is available in this version"
    return None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        return "there is no such field; docs/runs.md lists all of them"
    return sentence(first)


def invalid(errors: Mapping[str, str], *, prefix: str = "config.") -> Invalid:
    """Return the error of several fields, each by its path in the request."""
    found = tuple(FieldError(prefix + field, message) for field, message in errors.items())
    return Invalid("; ".join(f"{one.field}: {one.message}" for one in found), errors=found)


def contradictions(config: RunConfig, *, chosen: Chosen) -> dict[str, str]:
    """Return what cannot be on this device or with this model, by field."""
    found: dict[str, str] = {}
    if config.objective is Objective.SIMULATED:
        return found
    if config.data.split is not None and config.data.split not in chosen.splits:
        found["data.split"] = (
            f"version {chosen.version.number} of this dataset has no such split; "
            "choose one of its own, or leave it out"
        )
    found |= objectives.refusals(config)
    if config.simulate is not None:
        found["simulate"] = "only a run with the objective simulated takes it; leave it out"
    impossible = engines.refusals(config, device_kind=chosen.device_kind, facts=chosen.facts)
    return impossible | found


def require_ready(chosen: Chosen, config: RunConfig) -> None:
    """Raise unless dataset and model can be trained now."""
    _require_dataset(chosen.version, chosen, config)
    model = chosen.model
    if model.status == "downloading":
        raise Conflict(
            f"{model.name} is still being downloaded. Launch when it is ready.",
            code="base_model_not_ready",
        )
    if model.status != "ready":
        raise Invalid.field("base_model", model.failure or "its files cannot be used")
    if not chosen.facts.chat_template:
        raise Invalid.field(
            "base_model",
            "it has no chat template, so conversations cannot be written as text; choose an "
            "instruct model, or put chat_template.jinja into its folder",
        )


def _require_dataset(version: DatasetVersion, chosen: Chosen, config: RunConfig) -> None:
    if version.status == "checking":
        raise Conflict(
            f"{chosen.dataset.name} is still being checked. Launch when it is done.",
            code="dataset_not_ready",
        )
    if version.status == "failed":
        raise Invalid.field("dataset", "its check failed; upload the file again")
    if text := objectives.mismatch(config.objective, chosen.rows):
        raise Invalid.field("dataset", text)
    if version.status == "invalid" and not config.data.exclude_problem_rows:
        count = version.bad_rows or version.errors or 0
        raise Invalid.field(
            f"config.{EXCLUDE}",
            f"{count:,} rows of {chosen.dataset.name} have errors; leave them out by setting this "
            "to true, or upload a corrected file",
            code="dataset_has_errors",
        )
    if chosen.examples < 2:  # noqa: PLR2004  # one to learn from, one to measure with
        raise Invalid.field("dataset", "it has fewer than 2 rows that can be trained")
