"""What every page of a dataset is asked with, and what stands above it: name, version, sections.

Knows the sections' addresses, and nothing of what they show.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fastapi import Depends, Query, Response
from sqlalchemy.orm import Session

from app.auth import users
from app.auth.models import User
from app.auth.roles import Actor
from app.datasets import service
from app.datasets.formats import FORMATS
from app.datasets.models import DatasetVersion
from app.datasets.repairs import REPAIRS
from app.datasets.service import DatasetView
from app.dependencies import CurrentUser, SessionDep, SettingsDep
from app.kit.storage import Storage, get_storage
from app.settings import Settings
from web.htmx import Htmx, HtmxDep
from web.rendering import Page, render
from web.shell import Shell, ShellDep

SECTIONS = (
    ("overview", "Problems", ""),
    ("examples", "Examples", "/examples"),
    ("tokens", "Tokens", "/tokens"),
    ("repeats", "Repeats", "/repeats"),
    ("splits", "Splits", "/splits"),
    ("versions", "Versions", "/versions"),
)


@dataclass(frozen=True)
class Section:
    """One section's link."""

    title: str
    href: str
    current: bool


@dataclass(frozen=True)
class Head:
    """Name, version, actions, and the sections of a dataset."""

    template: ClassVar[str] = "datasets/_head.html"
    dataset: DatasetView
    version: DatasetVersion
    owner: User | None
    may_change: bool
    sections: tuple[Section, ...]

    @property
    def kind(self) -> str:
        """Say what the version's rows are."""
        known = FORMATS.get(self.version.format or "")
        return known.title if known else "Rows of a format not known"

    @property
    def made_from(self) -> int | None:
        """Return the number of the version that this one is repaired from."""
        numbers = {version.id: version.number for version in self.dataset.versions}
        return numbers.get(self.version.parent_id or "")

    @property
    def recipe(self) -> tuple[str, ...]:
        """Return the titles of the repairs that made this version."""
        names = (self.version.recipe or {}).get("repairs", [])
        return tuple(REPAIRS[name].title for name in names if name in REPAIRS)

    @property
    def usable(self) -> bool:
        """Tell whether a run could use the version shown."""
        return self.version.status in {"ready", "invalid"} and bool(self.version.examples)


def head_of(
    session: Session, actor: Actor, *, dataset_id: str, number: int | None, section: str
) -> Head:
    """Return the head of a dataset's page; ``NotFound`` if there is no such version."""
    view = service.get(session, dataset_id=dataset_id)
    version = service.get_version(session, dataset_id=dataset_id, number=number)
    owner_id = view.dataset.owner_id
    query = f"?version={version.number}" if version.number != view.latest.number else ""
    return Head(
        dataset=view,
        version=version,
        owner=users.by_id(session, {owner_id}).get(owner_id),
        may_change=actor.owns(owner_id),
        sections=tuple(
            Section(title, f"/datasets/{dataset_id}{path}{query}", name == section)
            for name, title, path in SECTIONS
        ),
    )


@dataclass(frozen=True)
class Visit:
    """What a page of a dataset is asked with: which version, by whom, and for which place."""

    dataset_id: str
    version: int | None
    session: Session
    actor: Actor
    settings: Settings
    shell: Shell
    htmx: Htmx

    @property
    def storage(self) -> Storage:
        """Return where the dataset's files lie."""
        return get_storage(self.settings)

    def head(self, section: str, *, number: int | None = None) -> Head:
        """Return the head, of version ``number`` rather than the one asked for if there is one."""
        return head_of(
            self.session,
            self.actor,
            dataset_id=self.dataset_id,
            number=number or self.version,
            section=section,
        )

    def answer(self, page: Page, fragment: Page) -> Response:
        """Answer with the page, or with the fragment of it where that alone is to be replaced."""
        return render(fragment if self.htmx.wants_fragment else page, self.shell)


def _visit(  # each is a query parameter or a dependency
    dataset_id: str,
    session: SessionDep,
    actor: CurrentUser,
    settings: SettingsDep,
    shell: ShellDep,
    htmx: HtmxDep,
    version: Annotated[int | None, Query(ge=1)] = None,
) -> Visit:
    return Visit(dataset_id, version, session, actor, settings, shell, htmx)


VisitDep = Annotated[Visit, Depends(_visit)]
