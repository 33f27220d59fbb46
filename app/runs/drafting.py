"""The new-run form while it is filled in: what would run, why, what speaks against it, how long.

Never raises for a wrong field: it is left out and named in ``errors``. Queues nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.auth.roles import Actor
from app.errors import Conflict, Invalid
from app.runs import advice, launching, memory, objectives, presets, repository
from app.runs.advice import Advice
from app.runs.launching import Chosen
from app.runs.memory import MemoryEstimate
from app.runs.schemas import DatasetChoice
from app.runs.spec import (
    MOST_DEVICES,
    DatasetRef,
    Objective,
    Preset,
    Resources,
    RunConfig,
    RunSpec,
)

TOP_FIELDS = frozenset({"name", "note", "priority", "resources.kind", "resources.devices"})


@dataclass(frozen=True)
class PresetOption:
    """What a preset would mean here; ``seconds`` is None until a run like it has finished."""

    preset: Preset
    config: RunConfig
    memory: MemoryEstimate
    steps: int | None
    seconds: float | None


@dataclass(frozen=True)
class Draft:
    """``spec`` is None until dataset and model are chosen. ``given`` are the fields that differ
    from the preset by the user's choice; fields are named as in the configuration. ``plain`` is
    what the preset alone would come to for the same objective, ``objectives`` are those that the
    dataset's rows can be used for, and ``usual`` the one that they are used for if nobody says.
    """  # noqa: D205

    spec: RunSpec | None
    given: frozenset[str] = frozenset()
    reasons: dict[str, str] = field(default_factory=dict[str, str])
    advice: list[Advice] = field(default_factory=list[Advice])
    memory: MemoryEstimate | None = None
    trained_parameters: int | None = None
    examples: int = 0
    steps: int | None = None
    estimated_seconds: float | None = None
    errors: dict[str, str] = field(default_factory=dict[str, str])
    options: list[PresetOption] = field(default_factory=list[PresetOption])
    device_kind: str = "auto"
    plain: RunConfig | None = None
    objectives: tuple[Objective, ...] = ()
    usual: Objective = Objective.SFT

    @property
    def warnings(self) -> int:
        """How many pieces of advice are warnings."""
        return sum(one.severity is advice.Severity.WARNING for one in self.advice)


def draft(
    session: Session,
    *,
    actor: Actor,
    dataset_id: str | None,
    base_model_id: str | None,
    preset: Preset = Preset.BALANCED,
    changes: Mapping[str, Any] | None = None,
    dataset_version: int | None = None,
) -> Draft:
    """Return what ``changes`` (field → value as typed; empty: the preset's) would come to."""
    del actor  # everybody may look
    raw = {name: value for name, value in (changes or {}).items() if value not in ("", None)}
    top = {name: raw.pop(name) for name in TOP_FIELDS & raw.keys()}
    given, errors = launching.checked(raw)
    if not dataset_id or not base_model_id:
        return Draft(spec=None, errors=errors)
    try:
        chosen = launching.choose(
            session,
            dataset=DatasetChoice(id=dataset_id, version=dataset_version),
            base_model=base_model_id,
            kind=_kind(top),
        )
    except Invalid as error:
        return Draft(spec=None, errors=errors | {one.field: one.message for one in error.errors})
    if not chosen.model.facts:
        return Draft(spec=None, errors=errors | _readiness(chosen, RunConfig()))
    return _drafted(session, chosen, preset=preset, given=given, top=top, errors=errors)


def _kind(top: Mapping[str, Any]) -> str:
    kind = top.get("resources.kind", "auto")
    return kind if kind in ("auto", "cpu", "cuda") else "auto"


def _cards(top: Mapping[str, Any]) -> int:
    text = str(top.get("resources.devices", 1))
    return int(text) if text.isdecimal() and 1 <= int(text) <= MOST_DEVICES else 1


def _too_many(session: Session, cards: int, kind: str) -> dict[str, str]:
    """Return what speaks against so many cards, by field."""
    try:
        launching.require_devices(session, cards, kind=kind)
    except Invalid as error:
        return {one.field: one.message for one in error.errors}
    return {}


def _drafted(  # the parts of a form
    session: Session,
    chosen: Chosen,
    *,
    preset: Preset,
    given: Mapping[str, Any],
    top: Mapping[str, Any],
    errors: dict[str, str],
) -> Draft:
    resolved = presets.resolve(given, case=chosen.case(preset))
    learns = {"objective": given["objective"]} if "objective" in given else {}
    plain = presets.resolve(learns, case=chosen.case(preset)).config
    usual = presets.flat(plain)
    config, cards = resolved.config, _cards(top)
    errors = errors | _readiness(chosen, config) | launching.contradictions(config, chosen=chosen)
    errors = errors | _too_many(session, cards, chosen.device_kind)
    option = _option(session, chosen, preset, config, cards=cards)
    return Draft(
        spec=_spec(chosen, preset=preset, config=config, top=top),
        given=frozenset(name for name in given if usual.get(name) != given[name]),
        reasons=resolved.reasons,
        advice=advice.advise(_subject(chosen, config)),
        memory=option.memory,
        trained_parameters=memory.trained_parameters(config, facts=chosen.facts),
        examples=chosen.examples,
        steps=option.steps,
        estimated_seconds=option.seconds,
        errors=errors,
        options=[
            _option(
                session,
                chosen,
                one,
                presets.resolve(learns, case=chosen.case(one)).config,
                cards=cards,
            )
            for one in Preset
        ],
        device_kind=chosen.device_kind,
        plain=plain,
        objectives=objectives.of_rows(chosen.rows),
        usual=presets.objective_for(chosen.rows)[0],
    )


def _spec(chosen: Chosen, *, preset: Preset, config: RunConfig, top: Mapping[str, Any]) -> RunSpec:
    model = chosen.model.name.rsplit("/", 1)[-1]
    priority = top.get("priority", "normal")
    return RunSpec(
        name=str(top.get("name", "")).strip()[:120] or f"{chosen.dataset.name[:70]}-{model[:48]}",
        dataset=DatasetRef(id=chosen.dataset.id, version=chosen.version.number),
        base_model=chosen.model.id,
        preset=preset,
        config=config,
        resources=Resources.model_validate({"kind": chosen.device_kind, "devices": _cards(top)}),
        priority=priority if priority in ("low", "normal", "high") else "normal",
        note=str(top.get("note", ""))[:10_000],
    )


def _subject(chosen: Chosen, config: RunConfig) -> advice.Subject:
    return advice.Subject(
        config=config,
        facts=chosen.facts,
        examples=chosen.examples,
        device_kind=chosen.device_kind,
        memory_bytes=chosen.memory_bytes,
        mean_tokens=chosen.mean_tokens,
    )


def _readiness(chosen: Chosen, config: RunConfig) -> dict[str, str]:
    """Return what keeps dataset or model from being trained now, by field."""
    try:
        launching.require_ready(chosen, config)
    except Conflict as error:
        return {"base_model" if error.code.startswith("base_model") else "dataset": error.detail}
    except Invalid as error:
        return {one.field.removeprefix("config."): one.message for one in error.errors}
    return {}


def _option(
    session: Session, chosen: Chosen, preset: Preset, config: RunConfig, *, cards: int
) -> PresetOption:
    steps = presets.steps_of(
        config, examples=chosen.rows_for(config.objective), mean_tokens=chosen.mean_tokens
    )
    size = memory.estimate(
        config,
        facts=chosen.facts,
        device_kind=chosen.device_kind,
        available=chosen.memory_bytes,
    )
    seconds = _seconds(session, chosen, config, steps, cards=cards)
    return PresetOption(preset, config, size, steps, seconds)


def _seconds(
    session: Session, chosen: Chosen, config: RunConfig, steps: int | None, *, cards: int
) -> float | None:
    """Return the time by the pace of the last finished run of this model that is alike, or None."""
    if steps is None:
        return None
    for run, job in repository.finished_alike(session, chosen.model.id, chosen.device_kind):
        spec, seconds = RunSpec.model_validate(run.spec), run.summary.get("seconds")
        other = spec.config
        if not isinstance(seconds, int | float) or not job.step or not _alike(config, other):
            continue
        if spec.resources.devices != cards:
            continue
        pace = seconds / (job.step * _rows_a_step(other))
        return math.ceil(pace * steps * _rows_a_step(config))
    return None


def _rows_a_step(config: RunConfig) -> int:
    return config.training.batch_size * config.training.gradient_accumulation


def _alike(one: RunConfig, other: RunConfig) -> bool:
    """Tell whether a row costs about the same time in both."""
    a, b = one.training, other.training
    return (a.packing, a.max_length, one.quantization, one.adapter.use_dora, one.objective) == (
        b.packing,
        b.max_length,
        other.quantization,
        other.adapter.use_dora,
        other.objective,
    )
