"""Bodies of the endpoints on splits, overlap, repeats and differences. Knows no rule."""

from typing import Annotated, Any, Literal

from pydantic import Field

from app.kit.schemas import Moment, Schema

Share = Annotated[float, Field(gt=0, le=0.9, description="Share of the rows held out.")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="Another seed, another draw.")]
ColumnName = Annotated[
    str,
    Field(min_length=1, max_length=200, description="As the file calls it; `a.b` is b within a."),
]


class _Wish(Schema):
    version: int | None = Field(default=None, ge=1, description="Default: the latest.")
    keep_copies_together: bool = Field(
        default=True, description="Copies and near copies stay on one side."
    )


class RandomWish(_Wish):
    """Rows are drawn."""

    method: Literal["random"]
    fraction: Share = 0.1
    seed: Seed = 42


class GroupWish(_Wish):
    """All rows with one value of a column are drawn together."""

    method: Literal["group"]
    column: ColumnName
    fraction: Share = 0.1
    seed: Seed = 42


class StratifiedWish(_Wish):
    """Of the rows with each value of a column the same share is drawn."""

    method: Literal["stratified"]
    column: ColumnName
    fraction: Share = 0.1
    seed: Seed = 42


class ColumnWish(_Wish):
    """A column says which rows are held out."""

    method: Literal["column"]
    column: ColumnName
    held_out: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        default=(
            "validation",
            "valid",
            "val",
            "dev",
            "test",
            "eval",
            "evaluation",
            "held_out",
        ),
        min_length=1,
        max_length=100,
        description="The values that mean held out, in whichever case.",
    )


class HeldOutFile(Schema):
    """A version of a dataset that is measured with."""

    id: str
    version: int | None = Field(default=None, ge=1, description="Default: the latest.")


class FileWish(_Wish):
    """Another version is what is measured with; rows that equal or nearly equal its rows go."""

    method: Literal["file"]
    file: HeldOutFile


SplitWish = Annotated[
    RandomWish | GroupWish | StratifiedWish | ColumnWish | FileWish, Field(discriminator="method")
]


class SplitOut(Schema):
    """A stored split. ``moved`` rows are on the other side than the method alone had put them.

    While a job parts a large version it is ``making``: ``result`` is empty, ``sha256`` null.
    """

    id: str
    version: int
    status: Literal["making", "ready", "failed"]
    failure: str | None
    method: str
    parameters: dict[str, Any]
    result: dict[str, Any]
    sha256: str | None
    created_by: str
    created_at: Moment


class SplitList(Schema):
    """Splits, newest first."""

    items: list[SplitOut]


Kind = Literal["exact", "near"]


class PairOut(Schema):
    """Two rows beside each other: parsed, or their text where they are no JSON."""

    line: int
    with_line: int
    kind: Kind
    similarity: float
    row: Any
    with_row: Any


class OverlapOut(Schema):
    """``rows`` of ``of`` rows are also in the other version; ``complete`` false: there may be more.

    Items are by line.
    """

    exact: int
    near: int
    rows: int
    of: int
    complete: bool
    items: list[PairOut]
    next: str | None


class RepeatOut(PairOut):
    """A row beside the one that it repeats; ``group_rows`` are all that belong together."""

    group_rows: int


class RepeatList(Schema):
    """``rows`` of ``of`` repeat an earlier one; ``complete`` false: only copies are known yet."""

    rows: int
    groups: int
    of: int
    complete: bool
    items: list[RepeatOut]
    next: str | None


class ChangeOut(Schema):
    """A row that differs: as it was (``from_``) and as it is; null where there is none."""

    kind: Literal["added", "removed", "changed"]
    from_line: int | None
    line: int | None
    from_row: Any
    row: Any


class DifferenceOut(Schema):
    """What changed between two versions; counts are of all kinds, whatever is listed."""

    added: int
    removed: int
    changed: int
    same: int
    items: list[ChangeOut]
    next: str | None
