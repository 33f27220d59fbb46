"""The new-run form as it is drawn: dataset, model, preset, all else folded, advice at its field.

It is drawn whole on every change by the same fragment that the page includes. Knows no request.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from app.auth.roles import Actor
from app.basemodels import service as basemodels
from app.basemodels.service import BaseModelView
from app.datasets import service as datasets
from app.datasets import splits
from app.datasets.models import DatasetVersion
from app.datasets.service import DatasetView
from app.devices import service as devices
from app.kit.pagination import PageRequest
from app.runs.drafting import Draft, PresetOption, draft
from app.runs.objectives import KINDS, reads
from app.runs.presets import DEFAULT
from app.runs.spec import Objective, Preset, RunConfig
from app.runs.trying import Mode
from web.forms import Form
from web.pages.dataset_splits import row_of
from web.pages.preflight_view import MODES, Result, result_in_form
from web.pages.run_fields import (
    FIELDS,
    GROUPS,
    OBJECTIVE,
    SPLIT,
    FormField,
    shown,
    value_at,
)

_CHOICES = PageRequest(limit=1000)
CARDS = "resources.devices"


@dataclass(frozen=True)
class Choice:
    """What is chosen so far: ids, preset, and the user's own values by dotted field."""

    dataset: str = ""
    version: int | None = None
    base_model: str = ""
    preset: Preset = Preset.BALANCED
    name: str = ""
    priority: str = "normal"
    note: str = ""
    cards: int = 1
    changed: Mapping[str, Any] | None = None
    preflight: str = ""
    mode: str = Mode.CHECK.value

    @property
    def own(self) -> Mapping[str, Any]:
        """Return the user's own values by dotted field."""
        return self.changed or {}


@dataclass(frozen=True)
class Control:
    """One setting as the form shows it: its value, whether it is changed, and the advice."""

    field: FormField
    value: str
    is_changed: bool
    reason: str
    advice: tuple[Any, ...]


@dataclass(frozen=True)
class PresetCard:
    """One preset with what it means for this dataset and model."""

    title: str
    text: str
    option: PresetOption


@dataclass(frozen=True)
class Setup:
    """The form with its summary."""

    template: ClassVar[str] = "runs/_setup.html"
    form: Form
    choice: Choice
    datasets: tuple[DatasetView, ...]
    models: tuple[BaseModelView, ...]
    dataset: DatasetVersion | None
    model: BaseModelView | None
    draft: Draft | None
    presets: tuple[PresetCard, ...]
    groups: tuple[tuple[str, tuple[Control, ...]], ...]
    base: str
    most_cards: int = 0
    objective: Control | None = None
    how: str = ""
    modes: tuple[tuple[str, str], ...] = MODES
    result: Result = field(default_factory=Result)

    @property
    def can_be_tried(self) -> bool:
        """Tell whether a few steps can be done before the run is launched."""
        spec = self.draft.spec if self.draft else None
        return spec is not None and KINDS[spec.config.objective].can_be_tried

    @property
    def is_open(self) -> bool:
        """Tell whether the settings are unfolded: one differs from the preset, or is wrong."""
        return bool(self.changes) or not FIELDS.keys().isdisjoint(self.form.errors)

    @property
    def cards(self) -> tuple[tuple[int, str], ...]:
        """Return the numbers of cards to choose from; none where there is only one."""
        most = max(self.most_cards, self.choice.cards)
        return tuple((count, str(count)) for count in range(1, most + 1)) if most > 1 else ()

    @property
    def changes(self) -> int:
        """Return how many settings differ from the preset."""
        return sum(control.is_changed for _, controls in self.groups for control in controls)


_PRESETS = {
    Preset.QUICK: ("Quick", "A first look."),
    Preset.BALANCED: ("Balanced", "For most."),
    Preset.QUALITY: ("Quality", "More capacity, more time."),
}


def setup_of(session: Session, actor: Actor, choice: Choice, form: Form | None = None) -> Setup:
    """Draw the form for what is chosen, with what is wrong in ``form``."""
    views = tuple(
        view
        for view in datasets.list_datasets(session, page=_CHOICES).items
        if view.latest.status != "failed"
    )
    models = tuple(basemodels.list_models(session, page=_CHOICES).items)
    choice = _with_defaults(choice, views, models)
    version = _version(session, choice)
    model = next((view for view in models if view.model.id == choice.base_model), None)
    form = form or Form()
    drawn = _draft(session, actor, choice, choice.own)
    if foreign := _foreign(drawn, choice.own):
        rest = {path: value for path, value in choice.own.items() if path not in foreign}
        choice = replace(choice, changed=rest)
        drawn = _draft(session, actor, choice, rest)
    form = Form(form.values, {**drawn.errors, **form.errors}, form.error)
    if version is None or model is None or drawn.spec is None:
        return Setup(form, choice, views, models, version, model, None, (), (), "{}")
    base = _base(drawn)
    return Setup(
        form=form,
        choice=choice,
        datasets=views,
        models=models,
        dataset=version,
        model=model,
        draft=drawn,
        presets=tuple(PresetCard(*_PRESETS[option.preset], option) for option in drawn.options),
        groups=_groups(drawn, base, choice, _splits(session, version)),
        objective=_objective(drawn, base, choice),
        how=KINDS[drawn.spec.config.objective].text,
        base=json.dumps(base),
        most_cards=devices.most_at_once(session, "cuda"),
        result=result_in_form(session, choice.preflight, drawn.spec),
    )


def _with_defaults(
    choice: Choice, views: tuple[DatasetView, ...], models: tuple[BaseModelView, ...]
) -> Choice:
    """Choose the newest clean dataset and the first ready model where nothing is chosen."""
    clean = [view for view in views if view.latest.status == "ready"] or list(views)
    ready = [view.model for view in models if view.model.status == "ready"]
    dataset = choice.dataset or (clean[0].dataset.id if clean else "")
    model = choice.base_model or (ready[0].id if ready else "")
    return replace(choice, dataset=dataset, base_model=model)


def _base(drawn: Draft) -> dict[str, str]:
    """Return what the preset puts into each control, given what is to be learned by."""
    values = (drawn.plain or RunConfig()).model_dump(mode="json")
    base = {path: shown(item, value_at(values, path)) for path, item in FIELDS.items()}
    return base | {OBJECTIVE.path: drawn.usual.value}


def _foreign(drawn: Draft, own: Mapping[str, Any]) -> set[str]:
    """Return what was chosen for another objective, or for a dataset of another kind."""
    wanted = own.get(OBJECTIVE.path)
    if wanted is not None and drawn.objectives and wanted not in drawn.objectives:
        return {OBJECTIVE.path}
    objective = drawn.spec.config.objective if drawn.spec else Objective.SFT
    return {path for path in own if not reads(objective, path)}


def _version(session: Session, choice: Choice) -> DatasetVersion | None:
    if not choice.dataset:
        return None
    return datasets.get_version(session, dataset_id=choice.dataset, number=choice.version)


def _draft(session: Session, actor: Actor, choice: Choice, own: Mapping[str, Any]) -> Draft:
    return draft(
        session,
        actor=actor,
        dataset_id=choice.dataset or None,
        base_model_id=choice.base_model or None,
        preset=choice.preset,
        changes={**own, CARDS: choice.cards},
        dataset_version=choice.version,
    )


def _values(drawn: Draft) -> Mapping[str, Any]:
    config = drawn.spec.config if drawn.spec else RunConfig()
    return config.model_dump(mode="json")


def _splits(session: Session, version: DatasetVersion) -> tuple[tuple[str, str], ...]:
    """Return the splits of a version to choose from, in words."""
    found = splits.made(session, version=version)
    kept = ((split.id, row_of(split).title_with_facts) for split in found)
    return (("", "By the seed"), *kept)


def _groups(
    drawn: Draft,
    base: Mapping[str, str],
    choice: Choice,
    kept: tuple[tuple[str, str], ...],
) -> tuple[tuple[str, tuple[Control, ...]], ...]:
    def control(field: FormField) -> Control:
        return _control(
            replace(field, choices=kept) if field.path == SPLIT else field, drawn, base, choice
        )

    objective = drawn.spec.config.objective if drawn.spec else Objective.SFT
    found = (
        (title, tuple(control(field) for field in fields if reads(objective, field.path)))
        for title, fields in GROUPS
    )
    return tuple((title, controls) for title, controls in found if controls)


def _control(field: FormField, drawn: Draft, base: Mapping[str, str], choice: Choice) -> Control:
    own, path = choice.own, field.path
    value = shown(field, own[path] if path in own else value_at(_values(drawn), path))
    advice = tuple(item for item in drawn.advice if item.field == path)
    reason = drawn.reasons.get(path, "")
    reason = "" if reason == DEFAULT else reason  # the help text says more
    return Control(field, value, value != base[path], reason, advice)


def _objective(drawn: Draft, base: Mapping[str, str], choice: Choice) -> Control | None:
    """Return what the dataset's rows can be learned by, if there is a choice."""
    if len(drawn.objectives) < 2:  # noqa: PLR2004  # one is none
        return None
    choices = tuple((one.value, KINDS[one].title) for one in drawn.objectives)
    return _control(replace(OBJECTIVE, choices=choices), drawn, base, choice)
