"""Sweeps: the list, one with its picture, and the form that varies a run. Translation only."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.datastructures import FormData
from starlette.responses import Response

from app.dependencies import CurrentUser, Member, PageParams, SessionDep
from app.errors import AppError, Invalid
from app.kit.pagination import Page
from app.runs import presets
from app.runs import service as runs
from app.runs.objectives import KINDS
from app.runs.schemas import DatasetChoice
from app.runs.views import RunView
from app.sweeps import service
from app.sweeps.asha import Halving
from app.sweeps.grid import Range, Search, Values
from app.sweeps.schemas import SweepRequest
from app.sweeps.service import SweepView
from web.forms import Form, flat, messages, read_form, with_error
from web.htmx import Toast, redirect
from web.pages.sweep_view import WIDE, Picture, picture
from web.rendering import render
from web.shell import ShellDep

router = APIRouter(prefix="/sweeps")
Posted = Annotated[FormData, Depends(read_form)]

# Which fields the form offers, with an example; the API takes any.
OFFERED: tuple[tuple[str, str, str], ...] = (
    ("training.learning_rate", "Learning rate", "1e-4, 2e-4, 5e-4"),
    ("training.epochs", "Epochs", "1, 2, 3"),
    ("training.batch_size", "Batch size", "2, 4"),
    ("adapter.rank", "Rank", "8, 16, 32"),
    ("adapter.alpha", "Alpha", "16, 32"),
    ("adapter.dropout", "Dropout", "0, 0.05"),
    ("training.weight_decay", "Weight decay", "0, 0.01"),
    ("training.scheduler", "Scheduler", "cosine, linear"),
)
_ENDS = {"min": "less", "max": "more"}


@dataclass(frozen=True)
class SweepList:
    """All sweeps, newest first."""

    template: ClassVar[str] = "sweeps/index.html"
    page: Page[SweepView]


@dataclass(frozen=True)
class SweepRuns:
    """The picture and the table of a sweep; it asks for itself until all runs have ended."""

    template: ClassVar[str] = "sweeps/_runs.html"
    view: SweepView
    picture: Picture | None


@dataclass(frozen=True)
class SweepPage:
    """A sweep with its runs."""

    template: ClassVar[str] = "sweeps/detail.html"
    runs: SweepRuns
    may_stop: bool


@dataclass(frozen=True)
class Offer:
    """A field that may be varied, with what it is in the run."""

    name: str
    text: str
    example: str
    present: str


@dataclass(frozen=True)
class NewSweep:
    """The form that varies what a run was launched with."""

    template: ClassVar[str] = "sweeps/new.html"
    run: RunView
    form: Form
    offers: tuple[Offer, ...]
    figures: tuple[tuple[str, str], ...]


def new_sweep(run: RunView, form: Form) -> NewSweep:
    """Return the form for a run."""
    present = presets.flat(run.spec.config)
    offers = tuple(Offer(name, text, like, _shown(present[name])) for name, text, like in OFFERED)
    known = KINDS[run.spec.config.objective].figures
    figures = tuple((name, f"{name}, {_ENDS[goal]} is better") for name, goal in known.items())
    return NewSweep(run, form, offers, figures)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@router.get("", name="pages.sweeps")
def index(session: SessionDep, _actor: CurrentUser, shell: ShellDep, page: PageParams) -> Response:
    """Show all sweeps."""
    return render(SweepList(service.list_sweeps(session, page=page)), shell)


@router.get("/new", name="pages.sweeps.new")
def new(session: SessionDep, _actor: Member, shell: ShellDep, run: str) -> Response:
    """Ask which fields of a run to vary."""
    return render(new_sweep(runs.get_view(session, run), Form()), shell)


@router.post("/new", name="pages.sweeps.create")
def create(
    session: SessionDep, actor: Member, shell: ShellDep, posted: Posted, run: str
) -> Response:
    """Launch the sweep; or show what is wrong, at its field."""
    base, form = runs.get_view(session, run), Form(values=flat(posted))
    try:
        request = _request(base, form)
        with session.begin_nested():
            made = service.create(session, actor=actor, request=request)
    except ValidationError as error:
        wrong = Form(values=form.values, errors=messages(error))
        return render(new_sweep(base, wrong), shell, status=422)
    except AppError as error:
        wrong = with_error(form, _at_fields(error))
        return render(new_sweep(base, wrong), shell, status=error.status)
    count = len(service.view(session, made.id).lines)
    return redirect(f"/sweeps/{made.id}", Toast(f"{count} runs are in the queue."))


def _space(form: Form, field: str) -> Values | Range | None:
    """Return what was typed: values between commas, or two ends with dots between them."""
    text = str(form.value(field))
    ends = [_value(part.strip()) for part in text.split("..")]
    if len(ends) == 2 and all(isinstance(end, int | float) for end in ends):  # noqa: PLR2004
        low, high = sorted(ends)
        scale = "log" if low > 0 and high / low >= WIDE else "linear"
        return Range(low=low, high=high, scale=scale)
    values = tuple(_value(part.strip()) for part in text.split(",") if part.strip())
    return Values(values=values) if values else None


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _request(base: RunView, form: Form) -> SweepRequest:
    """Return what the form asks for. Raises ``ValidationError``, or ``Invalid`` of an empty one."""
    spec = base.spec
    fields = {field: space for field, _, _ in OFFERED if (space := _space(form, field))}
    if not fields:
        raise Invalid("Give at least one field two values, separated by commas.")
    runs = form.value("runs") or None
    ends_early = form.value("halving") == "true"
    return SweepRequest(
        name=str(form.value("name")) or None,
        dataset=DatasetChoice(id=spec.dataset.id, version=spec.dataset.version),
        base_model=spec.base_model,
        preset=spec.preset,
        config=spec.config.model_dump(mode="json"),
        priority=spec.priority,
        search=Search.model_validate(
            {"fields": fields, "method": "random" if runs else "grid", "runs": runs}
        ),
        metric=str(form.value("metric", "eval/loss")),
        halving=Halving() if ends_early else None,
    )


def _at_fields(error: AppError) -> AppError:
    """Return the error with its fields named as the form names them; of others its sentence."""
    named = [
        type(one)(one.field.removeprefix("search.fields.").removeprefix("search."), one.message)
        for one in error.errors
    ]
    asked = {"name", "runs", "metric", *(name for name, _, _ in OFFERED)}
    if any(one.field not in asked for one in named):
        return AppError(error.detail.removeprefix("search.fields: ").capitalize())
    return type(error)(error.detail, code=error.code, errors=tuple(named))


def _runs_of(session: Session, sweep_id: str) -> SweepRuns:
    view = service.view(session, sweep_id)
    return SweepRuns(view, picture(view))


@router.get("/{sweep_id}", name="pages.sweep")
def detail(session: SessionDep, actor: CurrentUser, shell: ShellDep, sweep_id: str) -> Response:
    """Show a sweep."""
    found = _runs_of(session, sweep_id)
    may_stop = actor.owns(found.view.sweep.owner_id) and found.view.unfinished > 0
    return render(SweepPage(found, may_stop), shell)


@router.get("/{sweep_id}/runs", name="pages.sweep.runs")
def table(session: SessionDep, _actor: CurrentUser, shell: ShellDep, sweep_id: str) -> Response:
    """Return how the runs stand now."""
    return render(_runs_of(session, sweep_id), shell)


@router.post("/{sweep_id}/stop", name="pages.sweep.stop")
def stop(session: SessionDep, actor: Member, sweep_id: str) -> Response:
    """End all runs that have not ended."""
    service.stop(session, actor=actor, sweep_id=sweep_id)
    return redirect(f"/sweeps/{sweep_id}", Toast("Its runs stop; what they learned is kept."))
