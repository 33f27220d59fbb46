"""Bodies of the dataset endpoints. Knows no rule."""

from typing import Any, Literal, get_args

from pydantic import Field

from app.kit.schemas import Moment, Schema

Status = Literal["checking", "ready", "invalid", "failed"]
Format = Literal["messages", "sharegpt", "alpaca", "prompt_completion", "preference"]
Severity = Literal["error", "warning"]


class VersionOut(Schema):
    """One immutable content of a dataset."""

    id: str
    version: int
    status: Status
    format: str | None
    declared_format: str | None
    mapping: dict[str, str] | None
    examples: int | None
    errors: int | None
    warnings: int | None
    bytes: int
    sha256: str | None  # none until a job has brought or made the content
    filename: str
    created_at: Moment
    checked_at: Moment | None
    failure: str | None


class DatasetOut(Schema):
    """A dataset as its latest version shows it; ``invalid`` can be used without its bad rows."""

    id: str
    name: str
    owner: str
    version: int
    status: Status
    format: str | None
    examples: int | None
    errors: int | None
    warnings: int | None
    bytes: int
    sha256: str | None  # none until a job has brought or made the content
    created_at: Moment
    versions: list[VersionOut]


class DatasetList(Schema):
    """A page of datasets, newest first."""

    items: list[DatasetOut]
    next: str | None
    total: int


class ProblemOut(Schema):
    """One finding. ``excerpt[mark_start:mark_end]`` is the spot, where there is one."""

    line: int
    code: str
    severity: Severity
    message: str
    hint: str
    excerpt: str
    mark_start: int
    mark_end: int


class ProblemList(Schema):
    """A page of problems by line; ``total`` and ``by_code`` are true counts."""

    items: list[ProblemOut]
    next: str | None
    total: int
    by_code: dict[str, int]


class ExampleOut(Schema):
    """A row as it stands in the file: parsed, or its text where it is no JSON."""

    row_number: int
    line: int
    row: Any
    text: str | None


class ExampleList(Schema):
    """Rows from a place on; ``next`` is the line to go on with, ``next_row`` the row from 1.

    ``next`` is null at the end, and where the next row stands on a line that is shown already.
    """

    items: list[ExampleOut]
    next: int | None
    next_row: int | None
    total: int


class StatisticsOut(Schema):
    """Counts over the rows without errors; histograms as [low, high, count]."""

    version: int
    statistics: dict[str, Any] | None


class UploadOut(Schema):
    """An unfinished upload; deleted at ``expires_at`` unless more of it comes."""

    id: str
    filename: str
    bytes: int
    received: int
    created_at: Moment
    expires_at: Moment


class UploadList(Schema):
    """One's own unfinished uploads, newest first; all of them, so ``next`` is always null."""

    items: list[UploadOut]
    next: str | None
    total: int


class ImportFileOut(Schema):
    """A file in the import folder; ``id`` is what ``POST /datasets`` takes as ``import``."""

    id: str
    name: str
    bytes: int
    changed_at: Moment


class ImportList(Schema):
    """The files of the import folder by name; ``more`` says that not all are listed."""

    items: list[ImportFileOut]
    next: str | None
    total: int
    more: bool


class MappingIn(Schema):
    """What a version's rows are: their format, and our column → the file's column.

    Without a format it is detected, and no column is mapped.
    """

    version: int | None = Field(default=None, ge=1)
    format: Format | None = None
    mapping: dict[str, str] = Field(default_factory=dict[str, str], max_length=16)


UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "upload": {
                            "type": "string",
                            "description": "Instead of `file`: a whole upload of `/uploads`",
                        },
                        "import": {
                            "type": "string",
                            "description": "Instead of `file`: an id of `GET /imports`",
                        },
                        "name": {"type": "string", "maxLength": 120},
                        "format": {"type": "string", "enum": list(get_args(Format))},
                        "dataset": {"type": "string"},
                    },
                }
            }
        },
    }
}
