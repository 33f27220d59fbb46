"""What a base model is, read from its files as data; nothing of it is executed. Pure.

Given parsed JSON and names of files, says what the model is or why it cannot be tuned. Knows
neither folders nor the database: ``files`` reads, ``service`` stores.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

TOKENIZER_FILES = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json"})
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
BITS_OF_DTYPE = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}


class NotTunable(Exception):  # named as the user reads it
    """These files cannot be tuned; the sentence says why, and the cure."""


@dataclass(frozen=True)
class Shape:
    """What of a model decides which engine trains it.

    ``experts`` are those of a layer, 0 where the model is no mixture of experts; ``caps_scores``
    tells whether attention bends its scores towards a limit.
    """

    experts: int = 0
    caps_scores: bool = False


@dataclass(frozen=True)
class ModelFacts:
    """What presets, advice, the memory estimate and the models page ask about a model.

    ``context_length`` is in tokens; ``quantization`` is ``nf4`` for weights that are stored in
    4 bits, else None; ``kv_size`` is the width of keys (and of values) in a layer.
    """

    architecture: str
    hidden_size: int
    layers: int
    vocabulary: int
    context_length: int
    intermediate_size: int
    kv_size: int
    parameters: int
    chat_template: bool
    generation_markers: bool
    quantization: str | None = None
    tied_embeddings: bool = False
    experts: int = 0
    caps_scores: bool = False

    @property
    def shape(self) -> Shape:
        """Return what decides the engine."""
        return Shape(self.experts, self.caps_scores)

    def as_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ModelFacts":
        """Return what was stored."""
        return cls(
            **{field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        )


def read_facts(
    *,
    config: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    chat_template: str | None,
    files: Collection[str],
    headers: Collection[Mapping[str, Any]],
) -> ModelFacts:
    """Return the facts of a model, or raise ``NotTunable``.

    ``files`` are the names in its folder; ``headers`` are the parsed headers of its safetensors
    files; ``chat_template`` is the content of chat_template.jinja, if there is one.
    """
    require_tunable(config, tokenizer_config, files)
    text = _text_config(config)
    hidden = _count(text, "hidden_size", "n_embd", "d_model")
    heads = _count(text, "num_attention_heads", "n_head")
    kv_heads = _optional(text, "num_key_value_heads") or heads
    head_size = _optional(text, "head_dim") or hidden // heads
    template = chat_template or _template_of(tokenizer_config)
    shape = shape_of(text)
    return ModelFacts(
        architecture=_architecture(config),
        hidden_size=hidden,
        layers=_count(text, "num_hidden_layers", "n_layer"),
        vocabulary=_count(text, "vocab_size"),
        context_length=_optional(text, "max_position_embeddings", "n_positions") or 2048,
        intermediate_size=_optional(text, "intermediate_size", "n_inner") or 4 * hidden,
        kv_size=kv_heads * head_size,
        parameters=count_parameters(headers),
        chat_template=bool(template),
        generation_markers=has_generation_markers(template or ""),
        quantization=_quantization(config),
        tied_embeddings=bool(text.get("tie_word_embeddings", False)),
        experts=shape.experts,
        caps_scores=shape.caps_scores,
    )


def shape_of(text_config: Mapping[str, Any]) -> Shape:
    """Return what decides the engine, from the part of config.json that is about text."""
    experts = _optional(text_config, "num_local_experts", "num_experts", "n_routed_experts") or 0
    return Shape(experts, bool(text_config.get("attn_logit_softcapping")))


def has_generation_markers(template: str) -> bool:
    """Tell whether a chat template says itself which of its text the model is to learn."""
    squeezed = "".join(template.split())
    return any(
        mark in squeezed
        for mark in ("{%generation%}", "{%-generation%}", "{%-generation-%}", "{%generation-%}")
    )


def count_parameters(headers: Collection[Mapping[str, Any]]) -> int:
    """Return the sum of all tensors' sizes; a byte of 4-bit weights counts as two."""
    total = 0
    for header in headers:
        for name, tensor in header.items():
            if name == "__metadata__" or _is_quantization_state(name):
                continue
            size = math.prod(tensor.get("shape", ()))
            total += 2 * size if tensor.get("dtype") == "U8" else size
    return total


def _is_quantization_state(name: str) -> bool:
    return any(mark in name for mark in (".absmax", ".quant_map", ".nested_", ".quant_state"))


def require_tunable(
    config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], files: Collection[str]
) -> None:
    """Raise ``NotTunable`` unless these are a causal LM's safetensors with a tokenizer."""
    if "auto_map" in config or "auto_map" in tokenizer_config:
        raise NotTunable(
            "This model runs code of its own repository, which Tunebox never does. "
            "Choose a model of an architecture that transformers has built in."
        )
    if not _architecture(config).endswith(("ForCausalLM", "LMHeadModel")):
        raise NotTunable(
            f"{_architecture(config)} is not a causal language model. "
            "Choose a model whose architecture ends in ForCausalLM."
        )
    if not any(name.endswith(".safetensors") for name in files):
        raise NotTunable(_no_safetensors(files))
    if not TOKENIZER_FILES & set(files):
        raise NotTunable("The tokenizer is missing. Put tokenizer.json beside config.json.")


def _no_safetensors(files: Collection[str]) -> str:
    if any(name.endswith(PICKLE_SUFFIXES) for name in files):
        return (
            "Its weights are pickle files, which can run code when they are read. "
            "Convert them to safetensors, or choose a model that has them."
        )
    return "It has no safetensors files. Put the model's weights beside config.json."


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise NotTunable("config.json names no architecture. Use the config.json of a causal LM.")
    return names[0]


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _count(config: Mapping[str, Any], *names: str) -> int:
    value = _optional(config, *names)
    if value is None:
        raise NotTunable(f"config.json has no usable {names[0]!r}. Download the model again.")
    return value


def _optional(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40:
            return value
    return None


def _template_of(tokenizer_config: Mapping[str, Any]) -> str | None:
    template = tokenizer_config.get("chat_template")
    if isinstance(template, str):
        return template
    if isinstance(template, list):  # several templates by name
        named = [one for one in template if isinstance(one, dict) and one.get("name") == "default"]
        return str(named[0].get("template", "")) if named else None
    return None


def _quantization(config: Mapping[str, Any]) -> str | None:
    stored = config.get("quantization_config")
    if not isinstance(stored, dict):
        return None
    if stored.get("load_in_4bit") and stored.get("bnb_4bit_quant_type") == "nf4":
        return "nf4"
    kind = str(stored.get("quant_method", "an unknown way"))[:40]
    raise NotTunable(
        f"Its weights are quantized already ({kind}), which cannot be tuned here. "
        "Choose the model in 16 bits; Tunebox makes 4 bits of it where that helps."
    )
