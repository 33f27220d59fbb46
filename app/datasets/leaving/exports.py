"""How a version leaves: its conversations as messages, as JSON Lines or Parquet, in a stream.

Only rows without errors leave, with our names for their columns; a split leaves one side. Knows no
HTTP. What describes a version are ``card`` and ``llamafactory``.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import msgspec
from sqlalchemy.orm import Session

from app.datasets import reading, repository, service
from app.datasets.containers.columnar import ParquetStream
from app.datasets.containers.delimited import CSV, TSV
from app.datasets.formats import FORMATS
from app.datasets.formats.base import Row
from app.datasets.formats.preference import PREFERENCE
from app.datasets.leaving.card import Described
from app.datasets.leaving.llamafactory import Source, dataset_info
from app.datasets.models import Dataset, DatasetSplit, DatasetVersion
from app.datasets.reading import Rows
from app.datasets.table import RowPlace, as_places
from app.errors import Conflict, Invalid
from app.kit.storage import Storage

TRAINED, HELD_OUT = "trained", "held_out"
_SIDES = {TRAINED: 0, HELD_OUT: 1}
_ROWS_AT_ONCE = 1024
_AT_ONCE = 2**18
_SAMPLE = 200  # rows that show how a file is laid out
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Part:
    """Which rows leave: all good ones, or those on one side of a split."""

    split_key: str | None = None
    side: str | None = None


def part_of(
    session: Session, *, version: DatasetVersion, split_id: str | None, side: str | None
) -> Part:
    """Return the rows that are asked for; ``Invalid`` if the version has no such split."""
    if split_id is None:
        if side is not None:
            raise Invalid.field("split", "name the split whose side you want")
        return Part()
    split = session.get(DatasetSplit, split_id)
    if split is None or split.version_id != version.id or not split.is_made:
        message = f"version {version.number} has no such split; see the dataset's list of splits"
        raise Invalid.field("split", message)
    return Part(split.key, side or TRAINED)


def require_conversations(version: DatasetVersion) -> None:
    """Raise ``Conflict`` unless good rows of the version are conversations."""
    service.require_good_rows(version)
    if version.format not in FORMATS or version.format == PREFERENCE.name:
        raise Conflict(
            "Preference rows are no single conversation, so they have no form as messages. "
            "Download the file itself, or its cleaned form.",
            code="not_a_conversation",
        )


def file_name(
    dataset: Dataset, version: DatasetVersion, *, parquet: bool = False, part: Part | None = None
) -> str:
    """Return the name of an exported file, such as ``support-tickets-v2-trained.jsonl``."""
    side = f"-{part.side}" if part and part.side else ""
    return f"{_stem(dataset)}-v{version.number}{side}.{'parquet' if parquet else 'jsonl'}"


def _stem(dataset: Dataset) -> str:
    return re.sub(r"[^\w.-]+", "-", dataset.name).strip("-.") or "dataset"


def described(session: Session, dataset: Dataset, version: DatasetVersion) -> Described:
    """Return what the card of a version tells."""
    parent = session.get(DatasetVersion, version.parent_id) if version.parent_id else None
    made = [split for split in repository.splits(session, [version.id]) if split.is_made]
    return Described(dataset, version, parent, made)


def llamafactory_json(storage: Storage, dataset: Dataset, version: DatasetVersion) -> str:
    """Return LlamaFactory's ``dataset_info.json``; ``Conflict`` where it has no such layout."""
    service.require_good_rows(version)
    is_changed = version.bad_rows or version.compression
    source = Source(
        format=version.format or "",
        rows=_first_rows(storage, version),
        mapping=version.mapping or {},
        is_table=version.container in {CSV.name, TSV.name},
        filename=reading.cleaned_name(version) if is_changed else version.filename,
        messages_filename=file_name(dataset, version),
    )
    info = dataset_info(_stem(dataset), source)
    if info is None:
        raise Conflict(
            "LlamaFactory has no layout for these rows: it takes preference pairs as texts with a "
            "prompt. Write prompt, chosen and rejected as texts, then upload them again.",
            code="no_such_layout",
        )
    return json.dumps(info, ensure_ascii=False, indent=2) + "\n"


def _first_rows(storage: Storage, version: DatasetVersion) -> list[Row]:
    """Return the first good rows, by our names."""
    with Rows.open(storage, version) as rows:
        places = (place for place in rows.table.rows(0, 10 * _SAMPLE) if place.is_good)
        found = (rows.row(place) for place in islice(places, _SAMPLE))
        return [row for row in found if row is not None]


def messages_jsonl(storage: Storage, version: DatasetVersion, part: Part) -> Iterator[bytes]:
    """Yield JSON Lines: ``{"messages": [...]}``, and ``tools`` where a row has them."""
    held = bytearray()
    for row in _rows(storage, version, part):
        held += _encode(row)
        held += b"\n"
        if len(held) >= _AT_ONCE:
            yield bytes(held)
            held.clear()
    yield bytes(held)


def messages_parquet(storage: Storage, version: DatasetVersion, part: Part) -> Iterator[bytes]:
    """Yield a Parquet file with the column ``messages``; calls and tools are JSON in a text."""
    import pyarrow as pa

    turn: dict[str, Any] = {"role": pa.string(), "content": pa.string(), "name": pa.string()}
    turn |= {"tool_calls": pa.string(), "tool_call_id": pa.string(), "weight": pa.int8()}
    schema = pa.schema({"messages": pa.list_(pa.struct(turn)), "tools": pa.string()})
    written = ParquetStream(schema)
    held: list[dict[str, Any]] = []
    for row in _rows(storage, version, part):
        held.append(_flat(row))
        if len(held) == _ROWS_AT_ONCE:
            yield written.add(pa.RecordBatch.from_pylist(held, schema))
            held = []
    if held:
        yield written.add(pa.RecordBatch.from_pylist(held, schema))
    yield written.close()


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with what has no fixed form as JSON in a text."""
    turns = [
        turn | {"tool_calls": _text(turn["tool_calls"])} if turn.get("tool_calls") else turn
        for turn in row["messages"]
    ]
    return {"messages": turns, "tools": _text(row["tools"]) if "tools" in row else None}


def _text(value: Any) -> str:
    return _encode(value).decode()


def _rows(storage: Storage, version: DatasetVersion, part: Part) -> Iterator[dict[str, Any]]:
    """Yield each row that leaves."""
    with Rows.open(storage, version) as rows:
        if part.split_key is None:
            yield from _conversations(rows, None, None)
            return
        with storage.open(part.split_key) as sides:
            yield from _conversations(rows, sides, _SIDES[part.side or TRAINED])


def _conversations(
    rows: Rows, sides: IO[bytes] | None, side: int | None
) -> Iterator[dict[str, Any]]:
    for first, records in rows.table.blocks(_ROWS_AT_ONCE):
        chosen = sides.read(len(records)) if sides is not None else b""
        for at, place in enumerate(as_places(first, records)):
            if place.is_good and (sides is None or chosen[at] == side):
                made = _exported(rows, place)
                if made is not None:
                    yield made


def _exported(rows: Rows, place: RowPlace) -> dict[str, Any] | None:
    row = rows.row(place)
    turns = None if row is None or rows.format is None else rows.format.conversation(row)
    if row is None or turns is None:
        return None
    tools = _tools(row.get("tools"))
    return {"messages": turns, "tools": tools} if tools else {"messages": turns}


def _tools(value: Any) -> Any:
    """Return a row's tools, also where they are JSON in a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
