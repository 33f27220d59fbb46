"""The new-run page: dataset, model, preset, and all else folded; the advice stands at its field.

The whole form is drawn again on every change by the same fragment that the page includes. What a
user changed is what differs from the values that the preset had put into the controls, so a
changed preset keeps one's own values and replaces the others. Rules live in ``app.runs``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.auth.roles import Actor
from app.basemodels import service as basemodels
from app.basemodels.service import BaseModelView
from app.datasets import service as datasets
from app.datasets import splits
from app.datasets.models import DatasetVersion
from app.datasets.service import DatasetView
from app.dependencies import CurrentUser, Member, SessionDep
from app.devices import service as devices
from app.errors import AppError
from app.kit.pagination import PageRequest
from app.preflights import service as preflights
from app.runs import service as runs
from app.runs.drafting import Draft, PresetOption, draft
from app.runs.models import Run
from app.runs.objectives import KINDS, reads
from app.runs.presets import DEFAULT, nested
from app.runs.schemas import DatasetChoice, ResourceRequest, RunRequest
from app.runs.spec import MOST_DEVICES, Objective, Preset, RunConfig, RunSpec
from app.runs.trying import Mode
from web.forms import Form, flat, read_form, with_error
from web.htmx import HtmxDep, Toast, hx_redirect
from web.pages.dataset_splits import row_of
from web.pages.preflight_view import MODES, Result, result_in_form
from web.pages.run_fields import (
    FIELDS,
    GROUPS,
    OBJECTIVE,
    SPLIT,
    FormField,
    changes,
    shown,
    value_at,
)
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/runs")
_CHOICES = PageRequest(limit=1000)
EXCLUDE = "data.exclude_problem_rows"
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


@dataclass(frozen=True)
class NewRunPage:
    """The page around the form."""

    template: ClassVar[str] = "runs/new.html"
    setup: Setup


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


def posted_choice(data: FormData) -> Choice:
    """Read what the form says."""
    values = flat(data)
    base: dict[str, str] = json.loads(values.get("base") or "{}")
    own = changes(values, base)
    if values.get(EXCLUDE) == "true":
        own[EXCLUDE] = True
    if field := values.get("use"):  # a one-click cure: {"field": value, …}
        own |= json.loads(field)
    preset = values.get("preset", "")
    known = preset in set(Preset)
    version = values.get("version", "")
    return Choice(
        dataset=values.get("dataset", ""),
        version=int(version) if version.isdigit() else None,
        base_model=values.get("base_model", ""),
        preset=Preset(preset) if known else Preset.BALANCED,
        name=values.get("name", ""),
        priority=values.get("priority", "normal"),
        note=values.get("note", ""),
        cards=_count(values.get(CARDS, "")),
        changed={} if values.get("reset") else own,
        preflight=values.get("preflight", ""),
        mode=values.get("mode", Mode.CHECK.value),
    )


def _count(text: str) -> int:
    return int(text) if text.isdecimal() and 1 <= int(text) <= MOST_DEVICES else 1


def tried(choice: Choice, preflight_id: str) -> Choice:
    """Return ``choice`` with the preflight that tries it."""
    return replace(choice, preflight=preflight_id)


def _like(session: Session, run_id: str) -> Choice:
    """Choose what another run was launched with."""
    run = runs.get(session, run_id)
    choice = _of_spec(RunSpec.model_validate(run.spec))
    return replace(choice, name=f"{run.name}-2"[:120], priority="normal", note="")


def _after(session: Session, preflight_id: str) -> Choice:
    """Choose what was tried, with what the preflight proposes."""
    view = preflights.view(session, preflight_id)
    choice = replace(_of_spec(view.spec), preflight=preflight_id, mode=view.preflight.mode)
    changes = view.proposed.changes if view.proposed else {}
    return replace(choice, changed={**choice.own, **changes})


def _of_spec(spec: RunSpec) -> Choice:
    config = spec.config.model_dump(mode="json")
    values: dict[str, Any] = {path: value_at(config, path) for path in FIELDS}
    return Choice(
        dataset=spec.dataset.id,
        version=spec.dataset.version,
        base_model=spec.base_model,
        preset=spec.preset,
        name=spec.name,
        priority=spec.priority,
        note=spec.note,
        cards=spec.resources.devices,
        changed={**values, EXCLUDE: spec.config.data.exclude_problem_rows},
    )


@router.get("/new", name="pages.runs.new")
def new(  # each is a query parameter or a dependency
    session: SessionDep,
    actor: CurrentUser,
    shell: ShellDep,
    dataset: str = "",
    version: int | None = None,
    base_model: str = "",
    preset: Preset = Preset.BALANCED,
    like: str = "",
    split: str = "",
    preflight: str = "",
) -> Response:
    """Show the form, filled in from the address, like another run, or as a preflight proposes."""
    if like:
        choice = _like(session, like)
    elif preflight:
        choice = _after(session, preflight)
    else:
        own = {SPLIT: split} if split else None
        choice = Choice(dataset, version, base_model, preset, changed=own)
    return render(NewRunPage(setup_of(session, actor, choice)), shell)


def request_of(choice: Choice) -> RunRequest:
    """Return the launch that the form asks for."""
    return RunRequest(
        name=choice.name or None,
        dataset=DatasetChoice(id=choice.dataset, version=choice.version),
        base_model=choice.base_model,
        preset=choice.preset,
        config=nested(choice.own),
        resources=ResourceRequest(devices=choice.cards),
        priority=choice.priority,  # pyright: ignore[reportArgumentType]  # checked by the schema
        note=choice.note,
    )


def _remember(session: Session, actor: Actor, choice: Choice, run: Run) -> None:
    """Show what was tried on the run's page, if that is what runs."""
    if choice.preflight:
        spec = RunSpec.model_validate(run.spec)
        preflights.attach(
            session, actor=actor, preflight_id=choice.preflight, run_id=run.id, spec=spec
        )


PostedForm = Annotated[FormData, Depends(read_form)]


@router.post("/new/setup", name="pages.runs.new.setup")
def setup(session: SessionDep, actor: Member, shell: ShellDep, posted: PostedForm) -> Response:
    """Return the form for what is chosen now."""
    return render(setup_of(session, actor, posted_choice(posted)), shell)


@router.post("/new", name="pages.runs.create")
def create(
    session: SessionDep, actor: Member, shell: ShellDep, htmx: HtmxDep, posted: PostedForm
) -> Response:
    """Add the run to the queue and open its page; or show what is wrong, at its field."""
    choice = posted_choice(posted)
    try:
        request = request_of(choice)
        with session.begin_nested():
            run = runs.create(session, actor=actor, request=request)
            _remember(session, actor, choice, run)
    except AppError as error:
        form = with_error(Form(values=flat(posted)), at_fields(error))
        drawn = setup_of(session, actor, choice, form)
        return render(answer(drawn, htmx), shell, status=error.status)
    return hx_redirect(f"/runs/{run.id}", htmx, Toast(f"{run.name} is in the queue."))


def answer(setup: Setup, htmx: HtmxDep) -> Setup | NewRunPage:
    """Return the form alone where the request wants a piece, else its page."""
    return setup if htmx.wants_fragment else NewRunPage(setup)


def at_fields(error: AppError) -> AppError:
    """Return ``error`` with the form's field names, which go without ``config.``."""
    fields = tuple(
        type(item)(item.field.removeprefix("config."), item.message) for item in error.errors
    )
    return AppError(error.detail, code=error.code, errors=fields)
