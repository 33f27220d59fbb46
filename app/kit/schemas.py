"""The base of request and response bodies. Knows no feature."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer


class Schema(BaseModel):
    """Frozen; unknown fields are refused; reads ORM objects by attribute."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC ending in ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(iso, return_type=str, when_used="json")]


def sentence(finding: Mapping[str, Any]) -> str:
    """Return one of pydantic's findings in plain words, to stand after the field's name."""
    if finding["type"] == "missing":
        return "is required"
    if finding["type"] == "extra_forbidden":
        return "is not a known field; remove it or check its spelling"
    text = str(finding["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.partition(", unable to parse")[0].partition(", got a number with")[0]
    return text.replace("Input should be", "must be").replace("String should", "must")


def finite(value: Any) -> Any:  # any JSON value
    """Return ``value`` with NaN and infinities replaced by ``None``, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
