"""Bodies of the token endpoints. Knows no rule."""

from typing import Any, Literal

from pydantic import Field

from app.kit.schemas import Schema


class ReportRequest(Schema):
    """Which model a version's rows are counted for, and how many tokens of a row are kept."""

    base_model: str
    max_length: int = Field(ge=16, le=1_048_576)
    version: int | None = Field(default=None, ge=1, description="The latest, if left out.")


class ReportOut(Schema):
    """What a version costs in tokens; all but ``status`` and ``progress`` once it is ready.

    Lengths are in tokens; ``tokens`` are those of an epoch after rows are cut. ``padding`` and
    ``steps`` are estimates, for each example in a row of its own and for packed rows.
    """

    status: Literal["running", "ready"]
    version: int
    base_model: str
    max_length: int
    progress: float | None = None
    rows: int | None = None
    lengths: dict[str, Any] | None = None
    too_long: dict[str, Any] | None = None
    no_trained_tokens: dict[str, Any] | None = None
    template_rejects_row: dict[str, Any] | None = None
    tokens: dict[str, int] | None = None
    padding: dict[str, Any] | None = None
    steps: dict[str, int] | None = None
    by_code: dict[str, int] | None = None
    problems: list[dict[str, Any]] | None = None


class TokenOut(Schema):
    """One token: what it stands for, whether it is learned, and whether it is cut off.

    ``special``: one that the tokenizer knows as a whole, such as the marks of a template.
    """

    id: int
    text: str
    trained: bool
    special: bool = False
    cut: bool = False


class PreviewOut(Schema):
    """A row as it is trained; ``trained`` and ``total`` count what is not cut, ``uncut`` all."""

    line: int
    tokens: list[TokenOut]
    trained: int
    total: int
    uncut: int
