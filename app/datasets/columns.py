"""What the rows of a version have in one column. Knows rows and their bytes, no query."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from app.datasets.alike.candidates import Places
from app.datasets.check.rows import parse
from app.datasets.reading import Rows
from app.datasets.table import as_places
from app.errors import Invalid

_LONGEST_LABEL = 200
_NAMED = 8  # columns that a message names
_ABSENT = object()
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True)
class Column:
    """One column: each row's value by its number, -1 where there is none, and its text."""

    numbers: Places
    labels: list[str]


def column_of(rows: Rows, name: str, *, read: Callable[[int], None] = lambda _rows: None) -> Column:
    """Return what stands under ``name``, as the file calls it; ``a.b`` may be b within a.

    ``read`` hears how many rows have been read. ``Invalid`` where no row has it.
    """
    numbers = np.full(len(rows), -1, dtype=np.int64)
    known: dict[str, int] = {}
    seen: Counter[str] = Counter()
    for first, records in rows.table.blocks(1024):
        read(first)
        for place in as_places(first, records):
            row, _ = parse(rows.data(place))
            if type(row) is not dict:
                continue
            value = _value(row, name)
            if value is not _ABSENT and value is not None:
                numbers[place.place] = known.setdefault(_label(value), len(known))
            elif len(seen) < _NAMED:
                seen.update(row)
    if not known:
        names = ", ".join(f"{column[:40]}" for column in list(seen)[:_NAMED]) or "none"
        raise Invalid.field("column", f"no row has the column {name[:40]}; there are: {names}")
    return Column(numbers, list(known))


def _value(row: Mapping[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    outer, dot, inner = name.partition(".")
    within = row.get(outer)
    return _value(within, inner) if dot and isinstance(within, dict) else _ABSENT


def _label(value: Any) -> str:
    text = value if isinstance(value, str) else _encode(value).decode()
    return text.strip()[:_LONGEST_LABEL]
