"""What a preflight says on the form, on its own page and on a run's: gathered, no HTTP.

The figures are the trainer's; here they become the few that decide: does it fit, how long will it
take, and what would be better.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from sqlalchemy.orm import Session

from app.kit.clock import utc_now
from app.preflights import service
from app.preflights.service import Trial, View
from app.runs.spec import RunSpec
from app.runs.trying import Mode
from web import filters

MODES = (
    (Mode.CHECK.value, "Does it fit?"),
    (Mode.FAST.value, "Find the fastest"),
    (Mode.BALANCED.value, "Find a balance"),
    (Mode.SMALL.value, "Find the smallest"),
)
Place = Literal["form", "page", "run"]
Now = Literal["asked", "proposed", "other"]


@dataclass(frozen=True)
class TriedRow:
    """One setting that was tried, as the table shows it."""

    words: str
    fits: bool
    peak: str
    speed: str
    is_chosen: bool


@dataclass(frozen=True)
class Result:
    """A preflight as it stands. ``now`` says what the form around it has: what was tried, what is
    proposed, or something else. Empty without ``view``.
    """  # noqa: D205

    template: ClassVar[str] = "preflights/_result.html"
    view: View | None = None
    place: Place = "form"
    now: Now = "asked"
    rows: tuple[TriedRow, ...] = ()
    ends_at: datetime | None = None

    @property
    def shown(self) -> Trial | None:
        """Return the try whose figures stand first: the proposed one, else the one as asked."""
        return (self.view.proposed or self.view.asked) if self.view else None

    @property
    def headline(self) -> str:
        """Say in a few words what came of it."""
        view = self.view
        if view is None or view.asked is None:
            return ""
        if view.proposed is None:
            return "Nothing that was tried fits"
        if not view.proposed.changes:
            return "It fits" if view.preflight.mode == Mode.CHECK else "Your settings are best"
        return "Better settings were found" if view.asked.fits else "It does not fit as it is"


def result_of(view: View, *, place: Place, spec: RunSpec | None = None) -> Result:
    """Gather a preflight; ``spec`` is what the form around it would launch."""
    shown = view.proposed or view.asked
    seconds = shown["seconds"] if shown else None
    return Result(
        view=view,
        place=place,
        now=_now(view, spec),
        rows=tuple(_row(one, place == view.chosen) for place, one in enumerate(view.trials)),
        ends_at=utc_now() + timedelta(seconds=seconds) if seconds else None,
    )


def _now(view: View, spec: RunSpec | None) -> Now:
    if spec is None or spec.config == view.spec.config:
        return "asked"
    return "proposed" if service.is_of(view.preflight, spec) else "other"


def _row(trial: Trial, is_chosen: bool) -> TriedRow:  # noqa: FBT001  # its one caller reads well
    speed = trial["tokens_per_second"]
    return TriedRow(
        words=trial.words,
        fits=trial.fits,
        peak=filters.memory(trial["held_bytes"]) if trial.fits else "does not fit",
        speed=f"{speed:,.0f} tokens/s" if speed else "",
        is_chosen=is_chosen,
    )


def result_in_form(session: Session, preflight_id: str, spec: RunSpec | None) -> Result:
    """Gather what the form shows: nothing where there is no such preflight any more."""
    found = service.find(session, preflight_id)
    return result_of(found, place="form", spec=spec) if found else Result()
