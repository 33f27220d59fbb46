"""Lists in pages: a limit, an opaque cursor, a total. Knows no feature."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.errors import Invalid

T = TypeVar("T")


@dataclass(frozen=True)
class PageRequest:
    """How many items, from where on; ``cursor`` is what the last page gave as ``next``."""

    limit: int = 50
    cursor: str | None = None

    def position(self, *kinds: type) -> list[Any] | None:
        """Return what ``encode_cursor`` was given, or None for the first page.

        ``kinds`` are the types that the position must have, one each; without them any list does.
        """
        if self.cursor is None:
            return None
        try:
            value: Any = json.loads(base64.urlsafe_b64decode(self.cursor.encode()))
        except (ValueError, binascii.Error) as error:
            raise Invalid.field("cursor", "use the value of `next` as it was answered") from error
        if not _fits(value, kinds):
            raise Invalid.field("cursor", "use the value of `next` as it was answered")
        return value


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:  # any JSON value
    if not isinstance(value, list) or not kinds:
        return isinstance(value, list)
    parts: list[Any] = value
    return len(parts) == len(kinds) and all(map(isinstance, parts, kinds))


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list: items, the cursor of the next page or None, how many there are."""

    items: list[T]
    next: str | None
    total: int


def encode_cursor(position: list[Any]) -> str:
    """Return an opaque text for a position (JSON values)."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()
