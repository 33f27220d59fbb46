"""The browser over a version's rows: from a line on, by kind of problem, by text.

Translation only; which rows these are is ``app.datasets.browsing``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from app.datasets import browsing, repository
from app.datasets.models import DatasetVersion
from app.datasets.problems import CATALOGUE, Code
from app.datasets.reading import Example
from app.errors import AppError
from app.kit.storage import Storage
from web.pages.dataset_head import Head, VisitDep
from web.pages.dataset_text import Turn, raw_of, turns_of

router = APIRouter(prefix="/datasets")
SHOWN_ROWS = 20


@dataclass(frozen=True)
class ExampleRow:
    """A row: its turns, or its raw text where it has none that can be read."""

    number: int
    line: int
    turns: tuple[Turn, ...]
    raw: str
    codes: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of problem that rows can be filtered by."""

    code: str
    title: str
    count: int


@dataclass(frozen=True)
class Examples:
    """Rows from a place on, and how to come to others."""

    template: ClassVar[str] = "datasets/_examples.html"
    version: DatasetVersion
    rows: tuple[ExampleRow, ...]
    kinds: tuple[Kind, ...]
    line: int
    number: int
    code: str
    q: str
    next_row: int | None
    ended_early: bool
    failure: str

    @property
    def total(self) -> int:
        """Return how many rows the version has."""
        return (self.version.examples or 0) + (self.version.bad_rows or 0)

    def address(self, *, row: int) -> str:
        """Return the address of the rows from number ``row`` on, with the same filter."""
        query = {"version": self.version.number, "row": row, "code": self.code, "q": self.q}
        kept = {name: value for name, value in query.items() if value}
        return f"/datasets/{self.version.dataset_id}/examples?{urlencode(kept)}"


@dataclass(frozen=True)
class ExamplesPage:
    """The browser with the dataset's head."""

    template: ClassVar[str] = "datasets/examples.html"
    head: Head
    examples: Examples


@dataclass(frozen=True)
class Wish:
    """What a user asks to see."""

    line: int = 1
    row: int | None = None
    code: str = ""
    q: str = ""


@router.get("/{dataset_id}/examples", name="pages.datasets.examples")
def index(
    visit: VisitDep,
    line: Annotated[int, Query(ge=1)] = 1,
    row: Annotated[int | None, Query(ge=1)] = None,
    code: str = "",
    q: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Show rows from a line or a row on."""
    head = visit.head("examples")
    wish = Wish(line, row, code, q.strip())
    examples = examples_of(visit.session, visit.storage, head.version, wish)
    return visit.answer(ExamplesPage(head, examples), examples)


def examples_of(
    session: Session, storage: Storage, version: DatasetVersion, wish: Wish
) -> Examples:
    """Gather the rows asked for; what cannot be shown is said in their place."""
    failure, found = "", browsing.Found([], None)
    try:
        found = browsing.browse(
            session,
            storage,
            version,
            start=browsing.Start(wish.line, wish.row),
            limit=SHOWN_ROWS,
            code=wish.code or None,
            q=wish.q or None,
        )
    except AppError as error:
        failure = error.detail
    codes = repository.codes_of(session, version.id, [example.line for _, example in found.items])
    rows = tuple(
        _row(version, number, example, codes.get(example.line, ()))
        for number, example in found.items
    )
    first = rows[0] if rows else None
    return Examples(
        version=version,
        rows=rows,
        kinds=_kinds(version),
        line=first.line if first else wish.line,
        number=first.number if first else wish.row or 1,
        code=wish.code,
        q=wish.q,
        next_row=found.next_row,
        ended_early=found.ended_early,
        failure=failure,
    )


def _kinds(version: DatasetVersion) -> tuple[Kind, ...]:
    counts: Mapping[str, int] = version.by_code or {}
    known = [(Code(code), count) for code, count in counts.items() if count and code in set(Code)]
    known.sort(key=lambda one: (CATALOGUE[one[0]].severity, -one[1]))
    return tuple(Kind(code.value, CATALOGUE[code].title, count) for code, count in known)


def _row(
    version: DatasetVersion, number: int, example: Example, codes: Sequence[str]
) -> ExampleRow:
    return ExampleRow(
        number, example.line, turns_of(version, example), raw_of(example), tuple(codes)
    )
