"""Reads the files of a model's folder as data, never as code. Knows no database.

Of safetensors only the headers are read; nothing is unpickled and no template is rendered.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.basemodels.facts import ModelFacts, NotTunable, read_facts

MOST_HEADER_BYTES = 100 * 2**20
MOST_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Inspection:
    """What a folder holds: the model's facts, and its size in bytes."""

    facts: ModelFacts
    bytes: int


def inspect(folder: Path) -> Inspection:
    """Return what the folder holds, or raise ``NotTunable`` with the reason and the cure."""
    if not folder.is_dir():
        raise NotTunable("Its folder is not there. Put it below the models folder.")
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    template = folder / "chat_template.jinja"
    facts = read_facts(
        config=read_json(folder / "config.json"),
        tokenizer_config=read_json(folder / "tokenizer_config.json", required=False),
        chat_template=template.read_text(encoding="utf-8") if template.is_file() else None,
        files={path.name for path in files},
        headers=list(_headers(files)),
    )
    _require_all_shards(folder)
    return Inspection(facts, sum(path.stat().st_size for path in files))


def read_json(file: Path, *, required: bool = True) -> dict[str, Any]:
    """Return a JSON object, ``{}`` for an optional file that is not there."""
    if not file.is_file():
        if required:
            raise NotTunable(f"{file.name} is missing. Copy the model's whole folder.")
        return {}
    if file.stat().st_size > MOST_JSON_BYTES:
        raise NotTunable(f"{file.name} is larger than {MOST_JSON_BYTES // 2**20} MiB.")
    try:
        value: Any = json.loads(file.read_bytes())
    except ValueError as error:
        raise NotTunable(f"{file.name} is no valid JSON. Copy the model again.") from error
    if not isinstance(value, dict):
        raise NotTunable(f"{file.name} holds no JSON object. Copy the model again.")
    return value


def _headers(files: list[Path]) -> Iterator[dict[str, Any]]:
    for path in files:
        if path.suffix == ".safetensors":
            yield _header(path)


def _header(file: Path) -> dict[str, Any]:
    """Return a safetensors header: 8 bytes of length, then JSON; the file's size must fit it."""
    cut = f"{file.name} is cut off or damaged. Copy or download it again."
    with file.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        if not len(b"{}") <= length <= MOST_HEADER_BYTES:
            raise NotTunable(cut)
        try:
            header: Any = json.loads(source.read(length))
        except ValueError as error:
            raise NotTunable(cut) from error
    if not isinstance(header, dict):
        raise NotTunable(cut)
    ends = [
        one["data_offsets"][1]
        for name, one in header.items()
        if name != "__metadata__" and isinstance(one, dict)
    ]
    if file.stat().st_size < 8 + length + max(ends, default=0):
        raise NotTunable(cut)
    return header


def _require_all_shards(folder: Path) -> None:
    index = read_json(folder / "model.safetensors.index.json", required=False)
    shards = set((index.get("weight_map") or {}).values())
    missing = sorted(str(name) for name in shards if not (folder / Path(str(name)).name).is_file())
    if missing:
        raise NotTunable(
            f"{len(missing)} of {len(shards)} weight files are missing, e.g. {missing[0][:80]}. "
            "Copy or download the model again."
        )
