"""What a retry may change of a run, and what a checkpoint holds fast. Queues nothing."""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.runs import launching, presets
from app.runs.spec import RunConfig, RunSpec

# A checkpoint holds what these decided; another value of them needs a new start.
FIXED_BY_CHECKPOINT = re.compile(
    r"(adapter|data|preference|sampling|rewards)\..*|objective|simulate|quantization|"
    r"training\.(seed|packing|optimizer|assistant_only_loss)"
)


def changed(
    session: Session, spec: RunSpec, changes: Mapping[str, Any], *, start: str
) -> tuple[RunConfig, dict[str, list[Any]]]:
    """Return the new configuration, and old and new value of each field that changed."""
    raw = launching.flattened({f.removeprefix("config."): value for f, value in changes.items()})
    given, errors = launching.checked(raw)
    old = presets.flat(spec.config)
    given = {field: value for field, value in given.items() if old.get(field) != value}
    for field in given:
        if start == "checkpoint" and FIXED_BY_CHECKPOINT.fullmatch(field):
            errors[field] = "a checkpoint cannot go on with another value; retry from the start"
    if errors:
        raise launching.invalid(errors, prefix="changes.")
    config = RunConfig.model_validate(presets.nested(old | given))
    chosen = launching.choose(
        session,
        dataset=launching.DatasetChoice(id=spec.dataset.id, version=spec.dataset.version),
        base_model=spec.base_model,
        kind=spec.resources.kind,
    )
    if errors := launching.contradictions(config, chosen=chosen):
        raise launching.invalid(errors, prefix="changes.")
    new = presets.flat(config)
    plain = config.model_dump(mode="json"), spec.config.model_dump(mode="json")
    now, then = (launching.flattened(one) for one in plain)
    return config, {f: [then.get(f), now.get(f)] for f in given if new[f] != old[f]}
