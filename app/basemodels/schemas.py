"""Bodies of the base model endpoints. Knows no rule."""

from typing import Any, Literal

from pydantic import Field, model_validator

from app.kit.schemas import Moment, Schema

HUB_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
REVISION = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"
FOLDER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"


class BaseModelRequest(Schema):
    """A model of the hub at a revision, or a folder below the models folder."""

    hub_id: str | None = Field(default=None, pattern=HUB_ID, description="organisation/name")
    revision: str | None = Field(
        default=None, pattern=REVISION, description="A commit, tag or branch; pinned to its commit."
    )
    folder: str | None = Field(
        default=None, pattern=FOLDER, description="The folder's name below the models folder."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "BaseModelRequest":
        if bool(self.hub_id) == bool(self.folder):
            raise ValueError("give either hub_id (and revision) or folder")
        if self.folder and self.revision:
            raise ValueError("a folder has no revision; leave it out")
        return self


class BaseModelOut(Schema):
    """A base model; ``progress`` runs from 0 to 1 while it is downloaded."""

    id: str
    name: str
    source: Literal["demo", "folder", "hub"]
    folder: str
    hub_id: str | None
    revision: str | None
    status: Literal["downloading", "ready", "failed"]
    parameters: int | None
    bytes: int | None
    facts: dict[str, Any]
    failure: str | None
    job: str | None
    progress: float | None
    runs: int
    created_at: Moment


class BaseModelList(Schema):
    """A page of models by name; ``folders`` are there but not registered."""

    items: list[BaseModelOut]
    next: str | None
    total: int
    folders: list[str]
