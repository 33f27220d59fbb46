"""Advice stands at its field and its cure removes it."""

from dataclasses import replace
from typing import Any

import pytest

from app.runs import presets
from app.runs.advice import Subject, advise
from app.runs.presets import Case
from app.runs.spec import Preset, RunConfig
from tests.unit.test_presets import BIG, DEMO

GIB = 2**30


def subject(given: dict[str, Any] | None = None, **facts: Any) -> Subject:
    known: dict[str, Any] = {
        "facts": BIG,
        "examples": 2000,
        "device_kind": "cuda",
        "memory_bytes": 80 * GIB,
    }
    known |= facts
    case = Case(
        Preset.BALANCED,
        known["examples"],
        known["facts"],
        known["device_kind"],
        known["memory_bytes"],
    )
    config = presets.resolve(given or {}, case=case).config
    return Subject(config=config, mean_tokens=400, **known)


def changed(it: Subject, cure: dict[str, Any]) -> Subject:
    values = presets.flat(it.config) | cure
    return replace(it, config=RunConfig.model_validate(presets.nested(values)))


@pytest.mark.parametrize(
    ("field", "given", "facts"),
    [
        ("training.learning_rate", {"training.learning_rate": 5e-3}, {}),
        ("training.learning_rate", {"training.learning_rate": 1e-6}, {}),
        ("training.epochs", {"training.epochs": 8}, {}),
        ("training.epochs", {"training.epochs": 3}, {"examples": 300}),
        ("adapter.alpha", {"adapter.alpha": 256}, {}),
        ("adapter.rank", {"adapter.rank": 256, "adapter.alpha": 256}, {"examples": 100}),
        ("adapter.rank", {"adapter.rank": 8}, {"examples": 20_000}),
        ("adapter.use_dora", {"adapter.use_dora": True}, {}),
        ("training.assistant_only_loss", {"training.assistant_only_loss": False}, {}),
        ("data.validation_fraction", {"data.validation_fraction": 0}, {}),
        ("training.max_length", {"training.max_length": 100_000}, {}),
        ("quantization", {"quantization": "none"}, {"memory_bytes": 12 * GIB}),
        ("quantization", {"quantization": "nf4"}, {}),
        ("training.packing", {"training.packing": True}, {"examples": 60}),
    ],
)
def test_a_cure_removes_the_advice_at_its_field(
    field: str, given: dict[str, Any], facts: dict[str, Any]
) -> None:
    it = subject(given, **facts)
    told = next(one for one in advise(it) if one.field == field)
    assert told.cure is not None
    assert told.label
    assert told.text.endswith(".")
    cured = changed(it, told.cure)
    assert told.text not in [one.text for one in advise(cured)]


def test_a_preset_as_it_is_earns_no_warning_on_the_demo() -> None:
    it = subject(facts=DEMO, examples=500, device_kind="cpu", memory_bytes=4 * GIB)
    assert advise(it) == []


def test_too_large_a_run_is_told_how_to_fit() -> None:
    it = subject({"quantization": "nf4"}, memory_bytes=7 * GIB)
    told = next(one for one in advise(it) if one.field == "training.batch_size")
    assert "GiB are needed" in told.text
    assert told.cure == {"training.batch_size": 1, "training.gradient_accumulation": 8}
