"""The instant estimate of memory is near what is known, and says what it is made of."""

from dataclasses import replace

import pytest

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


def test_the_parts_add_up_and_leave_the_rest_free() -> None:
    size = estimate("nf4")
    assert size.total == (
        size.weights + size.adapter + size.optimizer + size.activations + size.runtime
    )
    assert size.free == 24 * GIB - size.total
    assert size.fits


def test_longer_and_more_at_once_takes_more() -> None:
    one = estimate("nf4")
    assert estimate("nf4", **{"training.max_length": 1024}).activations == 2 * one.activations
    assert estimate("nf4", **{"training.batch_size": 4}).activations == 4 * one.activations


def test_adapters_count_as_peft_counts_them() -> None:
    config = RunConfig.model_validate({"adapter": {"rank": 16}})
    # q, o: 16·(4096+4096); k, v: 16·(4096+1024); gate, up, down: 16·(4096+14336); times 32 layers.
    expected = 32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18_432)
    assert memory.trained_parameters(config, facts=BIG) == expected


def test_an_unknown_device_neither_fits_nor_fails() -> None:
    size = memory.estimate(RunConfig(), facts=replace(DEMO), device_kind="cpu")
    assert size.fits is None
