"""Bodies of the repair endpoints. Knows no rule."""

from typing import Annotated

from pydantic import Field

from app.kit.schemas import Schema

MOST_NAMES = 50


class RepairOffer(Schema):
    """A repair that does something to a version; ``exact`` tells that just so many rows change."""

    name: str
    title: str
    what: str
    rows: int
    exact: bool


class RepairOffers(Schema):
    """What can be repaired in a version."""

    version: int
    items: list[RepairOffer]


class RepairRequest(Schema):
    """Which repairs to make of which version; the latest if none is named."""

    version: Annotated[int, Field(ge=1)] | None = None
    repairs: Annotated[list[str], Field(max_length=MOST_NAMES)]


class PreviewRequest(RepairRequest):
    """Which repairs to show, with how many differences each."""

    limit: Annotated[int, Field(ge=0, le=50)] = 10


class DifferenceOut(Schema):
    """A line before and after, cut to what changes; ``after`` is null if the line goes."""

    line: int
    before: str
    after: str | None


class RepairPreview(Schema):
    """What one repair does. ``changed`` and ``dropped`` count the rows that were looked at.

    ``total`` counts the whole version; null if it is too large to know before it is done.
    """

    name: str
    title: str
    changed: int
    dropped: int
    total: int | None
    differences: list[DifferenceOut]


class PreviewOut(Schema):
    """What repairs do together; ``complete`` tells that all rows were looked at."""

    version: int
    rows: int
    complete: bool
    note: str | None
    repairs: list[RepairPreview]
