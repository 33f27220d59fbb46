"""Which engine runs what, and what is refused: one table for form, launch and trainer."""

from dataclasses import replace
from typing import Any

import pytest

from app.basemodels.facts import ModelFacts, Shape
from app.runs import engines, presets
from app.runs.spec import Preset, RunConfig

FACTS = ModelFacts(
    "LlamaForCausalLM", 4096, 32, 128_000, 8192, 14_336, 1024, 8_000_000_000, True, False
)


def config(**fields: Any) -> RunConfig:
    dotted = {name.replace("__", "."): value for name, value in fields.items()}
    return RunConfig.model_validate(presets.nested(dotted))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"quantization": "nf4"},
        {"adapter__use_dora": True},
        {"adapter__use_rslora": True},
        {"adapter__init": "pissa"},
        {"adapter__lora_plus_ratio": 16},
        {"adapter__target_modules": ["q_proj", "v_proj"]},
    ],
)
def test_unsloth_runs_what_it_supports_on_an_nvidia_card(fields: dict[str, Any]) -> None:
    assert engines.choose(config(**fields), device_kind="cuda").engine == "unsloth"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"method": "full"}, "full fine-tuning"),
        ({"quantization": "int8"}, "not for 8"),
        ({"quantization": "nf4", "adapter__init": "loftq"}, "LoftQ"),
        ({"adapter__train_embeddings": True}, "embeddings"),
        ({"adapter__target_modules": ["q_proj", "router"]}, "no kernels for router"),
    ],
)
def test_peft_runs_the_rest_and_the_reason_is_told(fields: dict[str, Any], why: str) -> None:
    choice = engines.choose(config(**fields), device_kind="cuda")

    assert choice.engine == "peft"
    assert why in choice.reason
    named = config(engine="unsloth", **fields)
    assert why in engines.refusals(named, device_kind="cuda")["engine"]


@pytest.mark.parametrize(
    ("shape", "fields", "why"),
    [
        (Shape(experts=8), {}, "experts"),
        (Shape(experts=8), {"quantization": "nf4"}, "experts"),
        (Shape(caps_scores=True), {}, "capped scores"),
    ],
)
def test_peft_runs_models_that_unsloth_would_break(
    shape: Shape, fields: dict[str, Any], why: str
) -> None:
    choice = engines.choose(config(**fields), device_kind="cuda", shape=shape)
    assert choice.engine == "peft"
    assert why in choice.reason

    facts = replace(FACTS, experts=shape.experts, caps_scores=shape.caps_scores)
    named = config(engine="unsloth", **fields)
    assert why in engines.refusals(named, device_kind="cuda", facts=facts)["engine"]


def test_unsloth_runs_a_mixture_of_experts_whose_attention_alone_is_adapted() -> None:
    asked = config(adapter__target_modules=["q_proj", "v_proj"])
    choice = engines.choose(asked, device_kind="cuda", shape=Shape(experts=8))
    assert choice.engine == "unsloth"


def test_what_experts_cannot_have_is_refused_before_the_run_starts() -> None:
    asked = config(adapter__use_dora=True)
    facts = replace(FACTS, experts=8)
    assert "experts" in engines.refusals(asked, device_kind="cuda", facts=facts)["adapter.use_dora"]
    assert not engines.refusals(asked, device_kind="cuda", facts=FACTS)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_peft_runs_where_there_is_no_nvidia_card(device: str) -> None:
    choice = engines.choose(config(), device_kind=device)
    assert choice.engine == "peft"
    assert choice.reason == "Unsloth needs an NVIDIA card. PEFT runs everywhere."


def test_an_engine_that_was_asked_for_runs_if_it_can() -> None:
    assert engines.choose(config(engine="peft"), device_kind="cuda").engine == "peft"


def test_while_no_device_is_known_nothing_is_decided_and_no_engine_refused() -> None:
    assert engines.choose(config(), device_kind="auto").engine == "auto"
    assert engines.refusals(config(engine="unsloth", method="full"), device_kind="auto") == {}


@pytest.mark.parametrize(
    ("device", "fields", "field"),
    [
        ("cpu", {"quantization": "nf4"}, "quantization"),
        ("mps", {"quantization": "int8"}, "quantization"),
        ("mps", {"training__optimizer": "adamw_8bit"}, "training.optimizer"),
        ("cpu", {"engine": "unsloth"}, "engine"),
        ("cuda", {"adapter__init": "pissa", "quantization": "nf4"}, "adapter.init"),
        ("cuda", {"adapter__init": "pissa", "quantization": "int8"}, "adapter.init"),
        ("cuda", {"adapter__init": "loftq"}, "adapter.init"),
        ("cuda", {"adapter__init": "loftq", "quantization": "int8"}, "adapter.init"),
        ("cuda", {"adapter__init": "pissa", "adapter__use_dora": True}, "adapter.init"),
        (
            "cuda",
            {"adapter__init": "loftq", "adapter__use_dora": True, "quantization": "nf4"},
            "adapter.init",
        ),
        ("cuda", {"method": "full", "quantization": "nf4"}, "quantization"),
        ("cuda", {"method": "full", "adapter__use_dora": True}, "adapter.use_dora"),
        ("cuda", {"method": "full", "adapter__lora_plus_ratio": 4}, "adapter.lora_plus_ratio"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(
    device: str, fields: dict[str, Any], field: str
) -> None:
    assert list(engines.refusals(config(**fields), device_kind=device)) == [field]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "quantization"),
        ({"quantization": "int8"}, "quantization"),
        ({"method": "full"}, "method"),
        ({"quantization": "nf4", "adapter__init": "loftq"}, "adapter.init"),
    ],
)
def test_a_model_stored_in_four_bits_is_trained_in_four_bits(
    fields: dict[str, Any], field: str
) -> None:
    stored = replace(FACTS, quantization="nf4")
    assert field in engines.refusals(config(**fields), device_kind="cuda", facts=stored)


def test_the_engine_of_our_own_has_its_place_and_is_refused_by_name() -> None:
    assert "fused is not available in this version" in (engines.not_yet("engine", "fused") or "")
    assert engines.not_yet("engine", "peft") is None


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize(
    "given", [{}, {"method": "full"}, {"adapter.init": "pissa"}, {"adapter.train_embeddings": True}]
)
def test_no_preset_comes_to_a_refused_combination(
    device: str, preset: Preset, given: dict[str, Any]
) -> None:
    case = presets.Case(preset, 500, FACTS, device, 80 * 2**30)
    found = presets.resolve(given, case=case)

    assert engines.refusals(found.config, device_kind=device, facts=FACTS) == {}
    assert found.config.engine == engines.choose(found.config, device_kind=device).engine


def test_a_full_fine_tuning_takes_a_tenth_of_an_adapters_learning_rate() -> None:
    case = presets.Case(Preset.BALANCED, 5000, FACTS, "cuda", 80 * 2**30)
    full, adapter = (presets.resolve({"method": m}, case=case).config for m in ("full", "lora"))

    rates = full.training.learning_rate, adapter.training.learning_rate
    assert rates[0] == pytest.approx(rates[1] / 10)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "LoRA"),
        ({"quantization": "nf4"}, "QLoRA"),
        ({"quantization": "nf4", "adapter__use_dora": True}, "QDoRA"),
        ({"quantization": "int8"}, "LoRA in 8 bits"),
        ({"method": "full"}, "Full fine-tuning"),
    ],
)
def test_a_method_has_the_name_that_its_users_know(fields: dict[str, Any], name: str) -> None:
    assert engines.method_name(config(**fields)) == name
