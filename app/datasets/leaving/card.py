"""The card of a version: what it is, what was found in it, how it was made; as Markdown. Pure.

Names come from users, so they are written such that Markdown and YAML show them as they are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.datasets.formats import FORMATS
from app.datasets.models import Dataset, DatasetSplit, DatasetVersion
from app.datasets.problems import CATALOGUE, Code
from app.kit.schemas import iso

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|~!"})
_LICENCE = (
    "## Licence\n\nTunebox does not know under which terms these rows may be used. Say it here, "
    "and as `license:` in the lines at the top, before you pass the dataset on."
)
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_CONTAINERS = {
    "json": "a JSON array",
    "csv": "CSV",
    "tsv": "TSV",
    "parquet": "Parquet",
    "jsonl": "JSON Lines",
}


@dataclass(frozen=True)
class Described:
    """A version with all that its card tells."""

    dataset: Dataset
    version: DatasetVersion
    parent: DatasetVersion | None
    splits: Sequence[DatasetSplit]


def card(of: Described) -> str:
    """Return the card, with the metadata that the Hugging Face hub reads on top."""
    parts = [
        _metadata(of),
        f"# {_plain(of.dataset.name)}, version {of.version.number}",
        _facts(of),
        _problems(of.version),
        _splits(of.splits),
        _recipe(of),
        _LICENCE,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(of: Described) -> str:
    rows = of.version.examples or 0
    size = next((name for limit, name in _SIZES if rows < limit), "n>10M")
    name = json.dumps(of.dataset.name, ensure_ascii=False)
    return (
        f"---\npretty_name: {name}\ntask_categories:\n- text-generation\n"
        f"size_categories:\n- {size}\n---"
    )


def _plain(text: object) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return " ".join(str(text).split()).translate(_SPECIAL)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _facts(of: Described) -> str:
    version = of.version
    good, bad = version.examples or 0, version.bad_rows or 0
    taken = FORMATS.get(version.format or "")
    container = _CONTAINERS[version.container or "jsonl"]
    packed = f", packed with {version.compression}" if version.compression else ""
    facts: list[tuple[str, object]] = [
        ("rows", f"{good:,} without errors" + (f", {bad:,} with errors" if bad else "")),
        ("format", f"`{version.format}`" + (f" ({_plain(taken.title)})" if taken else "")),
        ("file", f"{_plain(version.filename)}: {container}{packed}, {version.bytes:,} bytes"),
        ("SHA-256 of the file", f"`{version.sha256}`"),
        ("uploaded", iso(version.created_at)),
    ]
    if version.mapping:
        named = (f"{_plain(ours)} is {_plain(theirs)}" for ours, theirs in version.mapping.items())
        facts.append(("columns", ", ".join(named)))
    return _table(("", ""), facts)


def _problems(version: DatasetVersion) -> str:
    counts = version.by_code or {}
    if not counts:
        return "## Problems\n\nNone were found."
    rows = [
        (
            f"`{code}`",
            CATALOGUE[Code(code)].severity.value,
            f"{count:,}",
            CATALOGUE[Code(code)].title,
        )
        for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if code in set(Code)
    ]
    return "## Problems\n\n" + _table(("code", "severity", "found", "what it means"), rows)


def _splits(splits: Sequence[DatasetSplit]) -> str:
    if not splits:
        return ""
    rows = [
        (
            f"`{split.id}`",
            split.method,
            _plain(_as_words(split.parameters)),
            f"{split.result.get('trained', 0):,}",
            f"{split.result.get('held_out', 0):,}",
            f"`{split.sha256}`",
        )
        for split in splits
    ]
    head = ("split", "method", "by", "trained", "held out", "SHA-256 of the sides")
    return "## Splits\n\n" + _table(head, rows)


def _recipe(of: Described) -> str:
    if of.parent is None:
        return ""
    recipe: dict[str, Any] = of.version.recipe or {}
    made = f"Made from version {of.parent.number} (SHA-256 `{of.parent.sha256}`)"
    repairs = [f"- {_plain(name)}" for name in recipe.get("repairs", [])]
    counts = recipe.get("counts")
    done = f"\n\nWhat was done: {_plain(_as_words(counts))}." if counts else ""
    if not repairs:
        return f"## Recipe\n\n{made}."
    return f"## Recipe\n\n{made} by these repairs, in order:\n\n" + "\n".join(repairs) + done


def _as_words(values: Any) -> str:
    if isinstance(values, dict):
        return ", ".join(f"{name} {_as_words(value)}" for name, value in values.items()) or "–"
    return str(values)
