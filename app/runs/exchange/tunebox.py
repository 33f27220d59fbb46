"""A run's spec as YAML that ``tunebox run`` and people read. Pure.

Scalars and short lists are written as JSON, which YAML contains, so nothing needs quoting rules.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.runs.spec import RunSpec


def to_yaml(spec: RunSpec) -> str:
    """Return the body of ``POST /runs`` that runs ``spec`` again, as YAML."""
    full = spec.model_dump(mode="json", exclude={"schema_version"})
    if full["config"].get("simulate") is None:
        full["config"].pop("simulate")
    return "\n".join(_lines(full, indent=0)) + "\n"


def _lines(tree: Mapping[str, Any], *, indent: int) -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield f"{' ' * indent}{name}:"
            yield from _lines(value, indent=indent + 2)
        else:
            yield f"{' ' * indent}{name}: {json.dumps(value, ensure_ascii=False)}"
