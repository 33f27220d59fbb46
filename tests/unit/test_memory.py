"""The instant estimate of memory is near what is known, and says what it is made of."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.basemodels.facts import ModelFacts
from app.runs import memory, presets
from app.runs.spec import RunConfig
from tests.unit.test_presets import BIG, DEMO

GIB = 2**30
SHORT = {
    "training.batch_size": 1,
    "training.max_length": 512,
    "training.gradient_checkpointing": True,
}


def estimate(quantization: str, **given: object) -> memory.MemoryEstimate:
    values = presets.flat(RunConfig()) | SHORT | {"quantization": quantization} | given
    config = RunConfig.model_validate(presets.nested(values))
    return memory.estimate(config, facts=BIG, device_kind="cuda", available=24 * GIB)


@pytest.mark.parametrize(("quantization", "gib"), [("nf4", 8), ("none", 16)])
def test_an_eight_billion_model_takes_what_the_field_knows(quantization: str, gib: int) -> None:
    assert gib * 0.75 <= estimate(quantization).total / GIB <= gib * 1.25


def llama(hidden: int, inner: int, layers: int, *, key_values: int) -> ModelFacts:
    """Return the facts of a shape whose peaks were measured."""
    layer = 2 * hidden**2 + 2 * hidden * key_values + 3 * hidden * inner + 2 * hidden
    size = 2 * 128_256 * hidden + layers * layer + hidden
    return ModelFacts(
        *("LlamaForCausalLM", hidden, layers, 128_256, 8192, inner, key_values, size, True, True)
    )


SHAPES = {
    "1B": llama(2048, 8192, 16, key_values=512),
    "8B": llama(4096, 14_336, 32, key_values=1024),
}
NF4: dict[str, object] = {"quantization": "nf4"}
PLAIN = {"training.gradient_checkpointing": False}
EIGHT = {**PLAIN, "training.batch_size": 8, "training.gradient_accumulation": 1}
PEFT = {"engine": "peft", "training.max_length": 900, "training.optimizer": "adamw"}
# Peaks of the allocator on one H200, in GiB, the longest batch as long as allowed.
MEASURED = [
    ("1B", NF4, 2.084),
    ("1B", NF4, 1.946),
    ("8B", NF4, 6.750),
    ("8B", NF4, 6.219),
    ("8B", {**NF4, "adapter.use_dora": True}, 8.1),
    ("8B", {**NF4, **PLAIN}, 22.0),
    ("8B", {**NF4, **EIGHT}, 67.5),
    ("8B", {"quantization": "none", **EIGHT}, 77.1),
    ("8B", {**NF4, **PEFT}, 9.8),
]


@pytest.mark.parametrize(("shape", "given", "gib"), MEASURED)
def test_the_estimate_is_near_what_was_measured(
    shape: str, given: dict[str, object], gib: float
) -> None:
    values = presets.flat(RunConfig()) | given
    config = RunConfig.model_validate(presets.nested(values))
    size = memory.estimate(config, facts=SHAPES[shape], device_kind="cuda")
    assert (size.total - size.runtime) / GIB == pytest.approx(gib, rel=0.15)


def test_the_docs_list_what_was_measured() -> None:
    text = Path("docs/performance.md").read_text(encoding="utf-8")
    for _, _, gib in MEASURED:
        assert f"| {gib:.2f} |" in text


def test_full_fine_tuning_holds_all_weights_with_gradients_and_moments() -> None:
    config = RunConfig.model_validate({"method": "full", "training": {"optimizer": "adamw"}})
    size = memory.estimate(config, facts=DEMO, device_kind="cpu")
    assert size.weights + size.adapter + size.optimizer == 16 * DEMO.parameters


def test_a_known_longest_batch_takes_less_than_the_longest_that_is_allowed() -> None:
    config = RunConfig.model_validate({"quantization": "nf4"})
    known = memory.estimate(config, facts=BIG, device_kind="cuda", tokens=1000)
    assert known.activations < memory.estimate(config, facts=BIG, device_kind="cuda").activations


def test_the_parts_add_up_and_leave_the_rest_free() -> None:
    size = estimate("nf4")
    assert size.total == (
        size.weights + size.adapter + size.optimizer + size.activations + size.runtime
    )
    assert size.free == 24 * GIB - size.total
    assert size.fits


def test_longer_and_more_at_once_takes_more() -> None:
    peft: dict[str, object] = {"engine": "peft"}
    one = estimate("nf4", **peft).activations
    assert estimate("nf4", **peft, **{"training.max_length": 1024}).activations == 2 * one
    assert estimate("nf4", **peft, **{"training.batch_size": 4}).activations == 4 * one
    assert estimate("nf4", **{"training.batch_size": 4}).total > estimate("nf4").total


def test_adapters_count_as_peft_counts_them() -> None:
    config = RunConfig.model_validate({"adapter": {"rank": 16}})
    # q, o: 16·(4096+4096); k, v: 16·(4096+1024); gate, up, down: 16·(4096+14336); times 32 layers.
    expected = 32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18_432)
    assert memory.trained_parameters(config, facts=BIG) == expected


def test_an_unknown_device_neither_fits_nor_fails() -> None:
    size = memory.estimate(RunConfig(), facts=replace(DEMO), device_kind="cpu")
    assert size.fits is None
