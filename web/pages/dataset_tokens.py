"""What a version costs in tokens of a base model, and which tokens of a row are trained.

Translation only; both are the trainer's own doing, see ``app.tokens``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from app.basemodels import service as basemodels
from app.basemodels.models import BaseModelRow
from app.datasets.models import DatasetVersion
from app.datasets.problems import CATALOGUE, Code
from app.datasets.reading import Rows
from app.dependencies import Member, SessionDep
from app.errors import AppError
from app.kit.pagination import PageRequest
from app.kit.storage import Storage
from app.tokens import service
from app.tokens.service import ReportView
from web.forms import flat, read_form
from web.histograms import Histogram, Series
from web.htmx import HtmxDep, Toast, redirect
from web.pages.dataset_head import Head, VisitDep
from web.rendering import render

router = APIRouter(prefix="/datasets")
_MODELS = 500
_MAX_LENGTH = 2048
_LINES = 12  # named of each kind of problem
_BREAK = "\n"

MaxLength = Annotated[int | None, Query(ge=16, le=1_048_576)]
Number = Annotated[int | None, Query(ge=1)]


@dataclass(frozen=True)
class Wish:
    """Whose tokens are asked for."""

    models: tuple[tuple[str, str], ...]
    model: BaseModelRow | None
    max_length: int


@dataclass(frozen=True)
class Trouble:
    """A kind of row that is not trained whole, with lines to look at."""

    code: str
    title: str
    cure: str
    rows: int
    note: str
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Report:
    """Lengths, losses and costs; while it is made, how far that is."""

    template: ClassVar[str] = "datasets/_report.html"
    version: DatasetVersion
    wish: Wish
    view: ReportView | None
    lengths: Histogram | None
    troubles: tuple[Trouble, ...]
    may_write: bool
    failure: str

    @property
    def numbers(self) -> dict[str, Any]:
        """Return the report's own figures; empty until it is made."""
        return (self.view.report.result if self.view else None) or {}

    @property
    def address(self) -> str:
        """Return the address of the report alone."""
        return f"{_address(self.version, self.wish, 'report')}"

    def row(self, line: int) -> str:
        """Return the address of a row's tokens."""
        return f"{_address(self.version, self.wish, line=line)}#datasets-preview"


@dataclass(frozen=True)
class Token:
    """One token as it is shown."""

    id: int
    text: str
    kind: str  # classes: on, sp, alt, off
    breaks: int


@dataclass(frozen=True)
class Preview:
    """A row token by token."""

    template: ClassVar[str] = "datasets/_preview.html"
    version: DatasetVersion
    wish: Wish
    line: int
    number: int
    before: int | None
    after: int | None
    tokens: tuple[Token, ...]
    trained: int
    total: int
    uncut: int
    failure: str
    loads: bool = False

    @property
    def source(self) -> str:
        """Return the address of the preview alone."""
        return _address(self.version, self.wish, "preview", line=self.line)

    def row(self, line: int) -> str:
        """Return the address of another row's tokens."""
        return f"{_address(self.version, self.wish, line=line)}#datasets-preview"


@dataclass(frozen=True)
class TokensPage:
    """Report and preview with the dataset's head."""

    template: ClassVar[str] = "datasets/tokens.html"
    head: Head
    wish: Wish
    report: Report
    preview: Preview


def _address(
    version: DatasetVersion, wish: Wish, part: str = "", *, line: int | None = None
) -> str:
    query = {
        "version": version.number,
        "base_model": wish.model.id if wish.model else None,
        "max_length": wish.max_length,
        "line": line,
    }
    kept = {name: value for name, value in query.items() if value}
    path = f"/datasets/{version.dataset_id}/tokens"
    return f"{path}{'/' + part if part else ''}?{urlencode(kept)}"


@router.get("/{dataset_id}/tokens", name="pages.datasets.tokens")
def index(
    visit: VisitDep,
    base_model: str = "",
    max_length: MaxLength = None,
    line: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """Show the report if it is made, and the tokens of a row; these are fetched by themselves."""
    head = visit.head("tokens")
    wish = _wish(visit.session, base_model, max_length)
    report = _report(visit.session, head.version, wish, may_write=visit.actor.may_write)
    preview = _frame(visit.storage, head.version, wish, line)
    return render(TokensPage(head, wish, report, preview), visit.shell)


@router.get("/{dataset_id}/tokens/report", name="pages.datasets.tokens.report")
def report(
    visit: VisitDep,
    base_model: str = "",
    max_length: MaxLength = None,
) -> Response:
    """Return the report alone, or how far it is."""
    head = visit.head("tokens")
    wish = _wish(visit.session, base_model, max_length)
    return render(
        _report(visit.session, head.version, wish, may_write=visit.actor.may_write), visit.shell
    )


@router.post("/{dataset_id}/tokens", name="pages.datasets.tokens.ask")
def ask(
    dataset_id: str,
    session: SessionDep,
    actor: Member,
    htmx: HtmxDep,
    posted: Annotated[FormData, Depends(read_form)],
) -> Response:
    """Queue the report, and go to where it appears."""
    del htmx
    values = flat(posted)
    number, length = values.get("version", ""), values.get("max_length", "")
    query = {name: values.get(name, "") for name in ("version", "base_model", "max_length")}
    address = f"/datasets/{dataset_id}/tokens?{urlencode(query)}"
    if not length.isdigit() or not 16 <= int(length) <= 1_048_576:  # noqa: PLR2004  # as the API has it
        address = f"/datasets/{dataset_id}/tokens?{urlencode({**query, 'max_length': _MAX_LENGTH})}"
        return redirect(address, Toast("Give a maximum length from 16 to 1,048,576 tokens.", "bad"))
    try:
        asked = service.pair(
            session,
            dataset_id=dataset_id,
            number=int(number) if number.isdigit() else None,
            base_model=values.get("base_model", ""),
        )
        service.ask(session, actor=actor, asked=asked, max_length=int(length))
    except AppError as error:
        return redirect(address, Toast(error.detail, "bad"))
    return redirect(address)


@router.get("/{dataset_id}/tokens/preview", name="pages.datasets.tokens.preview")
def preview(
    visit: VisitDep,
    base_model: str = "",
    max_length: MaxLength = None,
    line: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """Return a row token by token."""
    head = visit.head("tokens")
    wish = _wish(visit.session, base_model, max_length)
    frame = _frame(visit.storage, head.version, wish, line)
    found: dict[str, Any] = {}
    failure = frame.failure
    if wish.model and not failure:
        try:
            asked = service.pair(
                visit.session,
                dataset_id=visit.dataset_id,
                number=head.version.number,
                base_model=wish.model.id,
            )
            found = service.preview(
                visit.settings, asked, line=frame.line, max_length=wish.max_length
            )
        except AppError as error:
            failure = error.detail
    shown = Preview(
        version=head.version,
        wish=wish,
        line=frame.line,
        number=frame.number,
        before=frame.before,
        after=frame.after,
        tokens=_tokens(found.get("tokens", [])),
        trained=found.get("trained", 0),
        total=found.get("total", 0),
        uncut=found.get("uncut", 0),
        failure=failure,
    )
    return render(shown, visit.shell)


def _wish(session: Session, base_model: str, max_length: int | None) -> Wish:
    """Return what is asked for; by default the first model, at the usual length that it takes."""
    views = basemodels.list_models(session, page=PageRequest(limit=_MODELS)).items
    ready = [view.model for view in views if view.model.status == "ready"]
    chosen = next((one for one in ready if one.id == base_model), ready[0] if ready else None)
    if max_length is None:
        context = basemodels.facts_of(chosen).context_length if chosen else _MAX_LENGTH
        max_length = min(_MAX_LENGTH, context)
    return Wish(tuple((one.id, one.name) for one in ready), chosen, max_length)


def _report(session: Session, version: DatasetVersion, wish: Wish, *, may_write: bool) -> Report:
    view, failure = None, ""
    if wish.model:
        try:
            asked = service.pair(
                session,
                dataset_id=version.dataset_id,
                number=version.number,
                base_model=wish.model.id,
            )
            view = service.known(session, asked=asked, max_length=wish.max_length)
        except AppError as error:
            failure = error.detail
    result = (view.report.result if view else None) or {}
    return Report(
        version=version,
        wish=wish,
        view=view,
        lengths=_lengths(result, wish.max_length),
        troubles=_troubles(result),
        may_write=may_write,
        failure=failure,
    )


def _lengths(result: dict[str, Any], max_length: int) -> Histogram | None:
    lengths = result.get("lengths") or {}
    edges, counts = lengths.get("edges", []), lengths.get("counts", [])
    if not counts:
        return None
    first = next((place for place, count in enumerate(counts) if count), 0)
    series = (Series("", 1, tuple(counts[first:])),)
    return Histogram("An example", "tokens", tuple(edges[first:]), series, cut=max_length)


def _troubles(result: dict[str, Any]) -> tuple[Trouble, ...]:
    found: list[Trouble] = []
    for code in (Code.TEMPLATE_REJECTS_ROW, Code.NO_TRAINED_TOKENS, Code.TOO_LONG):
        part = result.get(code.value) or {}
        if not part.get("rows"):
            continue
        note = ""
        if code is Code.TOO_LONG:
            note = (
                f"{part['tokens_cut']:,} tokens are cut off, "
                f"{part['trained_tokens_lost']:,} of them to learn"
            )
        text = CATALOGUE[code]
        lines = tuple(_line(one) for one in part.get("lines", [])[:_LINES])
        found.append(Trouble(code.value, text.title, text.cure, part["rows"], note, lines))
    return tuple(found)


def _line(one: Any) -> tuple[int, str]:
    return (one["line"], one["reason"]) if isinstance(one, dict) else (int(one), "")


def _frame(storage: Storage, version: DatasetVersion, wish: Wish, line: int) -> Preview:
    """Return the preview's place among the rows, without its tokens."""
    number, before, after, failure = 1, None, None, ""
    try:
        with Rows.open(storage, version) as rows:
            if len(rows):
                place = min(rows.table.place_of_line(line), len(rows) - 1)
                line, number = rows.place(place).line, place + 1
                before = rows.place(place - 1).line if place else None
                after = rows.place(place + 1).line if place + 1 < len(rows) else None
    except AppError as error:
        failure = error.detail
    return Preview(
        version=version,
        wish=wish,
        line=line,
        number=number,
        before=before,
        after=after,
        tokens=(),
        trained=0,
        total=0,
        uncut=0,
        failure=failure,
        loads=wish.model is not None and not failure,
    )


def _tokens(found: Sequence[dict[str, Any]]) -> tuple[Token, ...]:
    return tuple(_token(place, one) for place, one in enumerate(found))


def _token(place: int, one: dict[str, Any]) -> Token:
    text = str(one["text"])
    kinds = [
        "on" if one["trained"] else "",
        "sp" if one.get("special") else "",
        "alt" if place % 2 else "",
        "off" if one.get("cut") else "",
    ]
    shown = text.replace(_BREAK, "⏎") or "∅"
    return Token(one["id"], shown, " ".join(kind for kind in kinds if kind), text.count(_BREAK))
