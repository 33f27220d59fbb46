"""A model is known by its files, read as data; what cannot be tuned is refused with the cure."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.basemodels import facts, files
from app.basemodels.facts import ModelFacts, NotTunable, Shape

DEMO = Path("app/demo/model")
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 256,
    "intermediate_size": 128,
}
FILES = {"config.json", "tokenizer.json", "model.safetensors"}


def read(
    config: dict[str, Any] | None = None,
    *,
    names: set[str] | None = None,
    template: str | None = None,
    headers: list[dict[str, Any]] | None = None,
) -> ModelFacts:
    return facts.read_facts(
        config=CONFIG | (config or {}),
        tokenizer_config={},
        chat_template=template,
        files=names or FILES,
        headers=headers or [],
    )


def test_the_demo_model_is_known_by_its_files() -> None:
    found = files.inspect(DEMO)
    assert found.facts.architecture == "LlamaForCausalLM"
    assert found.facts.hidden_size == 128
    assert found.facts.chat_template
    assert found.facts.generation_markers
    assert 500_000 < found.facts.parameters < 2_000_000
    assert ModelFacts.from_json(json.loads(json.dumps(found.facts.as_json()))) == found.facts


@pytest.mark.parametrize(
    ("config", "names", "sentence"),
    [
        ({"auto_map": {"AutoModel": "x.py"}}, None, "code of its own repository"),
        ({"architectures": ["BertForMaskedLM"]}, None, "not a causal language model"),
        ({"architectures": []}, None, "names no architecture"),
        ({}, {"tokenizer.json", "pytorch_model.bin"}, "pickle"),
        ({}, {"tokenizer.json"}, "no safetensors"),
        ({}, {"model.safetensors"}, "tokenizer is missing"),
        ({"hidden_size": "many"}, None, "hidden_size"),
        ({"quantization_config": {"quant_method": "gptq"}}, None, "quantized already (gptq)"),
    ],
)
def test_what_cannot_be_tuned_is_refused_with_a_cure(
    config: dict[str, Any], names: set[str] | None, sentence: str
) -> None:
    with pytest.raises(NotTunable) as refusal:
        read(config, names=names)
    assert sentence in str(refusal.value)


def test_parameters_are_summed_over_shards_without_the_state_of_quantization() -> None:
    headers = [
        {"__metadata__": {}, "a.weight": {"dtype": "BF16", "shape": [3, 4]}},
        {
            "b.weight": {"dtype": "U8", "shape": [10, 1]},
            "b.weight.absmax": {"dtype": "U8", "shape": [99]},
        },
    ]
    assert read(headers=headers).parameters == 12 + 20


@pytest.mark.parametrize("mark", ["{% generation %}", "{%- generation -%}", "{%generation%}"])
def test_generation_markers_are_found_however_they_are_spelt(mark: str) -> None:
    assert read(template=f"x {mark} y").generation_markers
    assert not read(template="plain").generation_markers


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({}, Shape()),
        ({"num_local_experts": 8}, Shape(experts=8)),
        ({"num_experts": 128}, Shape(experts=128)),
        ({"attn_logit_softcapping": 50.0}, Shape(caps_scores=True)),
        ({"attn_logit_softcapping": None}, Shape()),
    ],
)
def test_what_decides_the_engine_is_read_from_the_configuration(
    config: dict[str, Any], shape: Shape
) -> None:
    assert read(config).shape == shape


def test_weights_in_four_bits_are_known_as_such() -> None:
    stored = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    assert read({"quantization_config": stored}).quantization == "nf4"


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "model"))


def test_a_cut_off_weight_file_is_noticed(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(NotTunable, match="cut off"):
        files.inspect(folder)


@pytest.mark.parametrize("content", [b"", b"12345678garbage", b"\xff" * 64])
def test_garbage_for_weights_is_noticed(tmp_path: Path, content: bytes) -> None:
    folder = copied(tmp_path)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(NotTunable, match="cut off or damaged"):
        files.inspect(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(NotTunable, match=r"model-2\.safetensors"):
        files.inspect(folder)


def test_config_that_is_no_json_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(NotTunable, match=r"config\.json is no valid JSON"):
        files.inspect(folder)
