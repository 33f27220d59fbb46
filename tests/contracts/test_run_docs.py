"""The docs name every field of a run's configuration, and none that there is not."""

import re
from pathlib import Path

from pydantic import BaseModel

from app.runs.spec import RunConfig

DOCS = Path("docs/runs.md")


def fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= fields(inner, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def test_every_field_is_documented_and_nothing_else() -> None:
    section = DOCS.read_text(encoding="utf-8").split("## config")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", section, flags=re.MULTILINE))
    assert named == fields(RunConfig)


def test_every_field_has_a_help_text() -> None:
    for part in (RunConfig, *(f.annotation for f in RunConfig.model_fields.values())):
        if not (isinstance(part, type) and issubclass(part, BaseModel)):
            continue
        for name, info in part.model_fields.items():
            inner = info.annotation
            if (
                not (isinstance(inner, type) and issubclass(inner, BaseModel))
                and name != "simulate"
            ):
                assert info.description, name
