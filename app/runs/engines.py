"""Which engine trains a configuration on a kind of device, and why; or why none can. Pure.

One function for presets, the form, a launch and the trainer. An engine is one entry of ``ENGINES``:
another one of our own gets its place there. Says nothing of speed or memory beyond the reason it
gives; knows neither libraries nor devices, only the names of their kinds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.basemodels.facts import ModelFacts, Shape
from app.runs.spec import Objective, RunConfig

PLAIN = Shape()
AUTO, UNSLOTH, PEFT = "auto", "unsloth", "peft"
NAMES = {AUTO: "Automatic", UNSLOTH: "Unsloth", PEFT: "PEFT"}
CUDA, MPS, CPU = "cuda", "mps", "cpu"
HOSTS = {CPU: "a CPU", MPS: "an Apple GPU"}
# The linear layers that Unsloth has kernels for; "all-linear" means these to it.
UNSLOTH_MODULES = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
)
EXPERTS = frozenset({"gate_up_proj", "down_proj", "gate_proj", "up_proj"})
# What the API's contract names and a later version brings: field → value → what to do meanwhile.
LATER: Mapping[str, Mapping[str, str]] = {
    "engine": {"fused": "use auto, unsloth or peft"},
    "quantization": {"fp8": "use nf4, int8 or none"},
}


@dataclass(frozen=True)
class Choice:
    """The engine that runs, ``auto`` while the device is unknown, and a sentence why."""

    engine: str
    reason: str

    @property
    def name(self) -> str:
        """Return the engine's name as people write it."""
        return NAMES[self.engine]


@dataclass(frozen=True)
class Engine:
    """An engine: what keeps it from a configuration on a device, and why one would take it."""

    name: str
    lacks: Callable[[RunConfig, str, Shape], str | None]
    praise: str


def choose(config: RunConfig, *, device_kind: str, shape: Shape = PLAIN) -> Choice:
    """Return what trains ``config``: the engine it names if that can, else the first that can.

    ``shape`` is the model's.
    """
    if config.objective is Objective.SIMULATED:
        return Choice(config.engine, "A simulated run trains nothing.")
    if device_kind == AUTO:
        return Choice(config.engine, "Decided when a device takes the run.")
    wanted = next((one for one in ENGINES if one.name == config.engine), None)
    if wanted and wanted.lacks(config, device_kind, shape) is None:
        return Choice(wanted.name, "It is the engine that was asked for.")
    reasons: list[str] = []
    for one in ENGINES:
        lack = one.lacks(config, device_kind, shape)
        if lack is None:
            return Choice(one.name, " ".join([*reasons, one.praise]))
        reasons.append(f"{NAMES[one.name]} {lack}.")
    raise AssertionError("PEFT takes whatever can be trained at all")


def refusals(
    config: RunConfig, *, device_kind: str, facts: ModelFacts | None = None
) -> dict[str, str]:
    """Return what cannot be trained on such a device or together, by field, each with a cure."""
    if config.objective is Objective.SIMULATED:
        return {}
    found: dict[str, str] = {}
    for check in (_on_this_device, _of_full, _of_adapters):
        for field, text in check(config, device_kind):
            found.setdefault(field, text)
    shape = facts.shape if facts else PLAIN
    for field, text in _of_engines(config, device_kind, shape):
        found.setdefault(field, text)
    for rule in (_of_stored, _of_experts):
        for field, text in rule(config, facts):
            found.setdefault(field, text)
    return found


def not_yet(field: str, value: Any) -> str | None:
    """Return why a value that the contract names is not taken yet, or None."""
    cure = LATER.get(field, {}).get(value) if isinstance(value, str) else None
    return f"{value} is not available in this version; {cure}" if cure else None


def trains_embeddings(config: RunConfig, *, tokens: int, rows: int) -> bool:
    """Tell whether embeddings and head are trained too: if asked, or if tokens have no row yet."""
    wanted = config.adapter.train_embeddings
    return tokens > rows if wanted == AUTO else bool(wanted)


def method_name(config: RunConfig) -> str:
    """Return the method in the words that its users know: QLoRA, DoRA, Full fine-tuning."""
    if config.method == "full":
        return "Full fine-tuning"
    variant = "DoRA" if config.adapter.use_dora else "LoRA"
    return {"nf4": f"Q{variant}", "int8": f"{variant} in 8 bits", "none": variant}[
        config.quantization
    ]


def _unsloth_lacks(config: RunConfig, device_kind: str, shape: Shape) -> str | None:
    adapter = config.adapter
    named = () if isinstance(adapter.target_modules, str) else adapter.target_modules
    others = sorted(set(named) - UNSLOTH_MODULES)
    lacks = {
        "needs an NVIDIA card": device_kind != CUDA,
        "is used for supervised fine-tuning only": config.objective is not Objective.SFT,
        "is for adapters, and this is a full fine-tuning": config.method == "full",
        "is used for 4 and 16 bits, not for 8": config.quantization == "int8",
        "does not start an adapter by LoftQ over 4-bit weights": adapter.init == "loftq",
        "does not promise the same bits twice": config.training.deterministic,
        "is not used where embeddings are trained": adapter.train_embeddings is True,
        f"has no kernels for {', '.join(others)}": bool(others),
        "writes adapters on experts that PEFT does not read": trains_experts(config, shape),
        "fails on attention with capped scores": shape.caps_scores,
    }
    return next((lack for lack, holds in lacks.items() if holds), None)


def _peft_lacks(config: RunConfig, device_kind: str, shape: Shape) -> str | None:
    del config, device_kind, shape
    return None


ENGINES: tuple[Engine, ...] = (
    Engine(UNSLOTH, _unsloth_lacks, "The fastest way on an NVIDIA card."),
    Engine(PEFT, _peft_lacks, "PEFT runs everywhere."),
)

Found = Iterator[tuple[str, str]]


def _on_this_device(config: RunConfig, device_kind: str) -> Found:
    if device_kind not in HOSTS:
        return
    if config.quantization != "none":
        bits = {"nf4": "4 bits need", "int8": "8 bits need"}[config.quantization]
        yield "quantization", f"{bits} an NVIDIA card; use none, or resources.kind cuda"
    if config.training.optimizer == "adamw_8bit":
        yield "training.optimizer", "8-bit states need an NVIDIA card; use auto or adamw"


def _of_full(config: RunConfig, device_kind: str) -> Found:
    del device_kind
    if config.method != "full":
        return
    if config.quantization != "none":
        text = "a full fine-tuning changes all weights, which needs them whole; use none"
        yield "quantization", text
    plain = type(config.adapter)()
    for name in ("use_dora", "use_rslora", "init", "lora_plus_ratio", "train_embeddings"):
        if getattr(config.adapter, name) != getattr(plain, name):
            text = "a full fine-tuning has no adapter; leave it out, or set method to lora"
            yield f"adapter.{name}", text


def _of_adapters(config: RunConfig, device_kind: str) -> Found:
    del device_kind
    adapter = config.adapter
    if config.method == "full":
        return
    if adapter.use_dora and adapter.init != "default":
        name = {"pissa": "PiSSA", "loftq": "LoftQ"}[adapter.init]
        yield "adapter.init", f"DoRA and {name} exclude each other; use default"
    if adapter.init == "pissa" and config.quantization != "none":
        text = (
            "PiSSA moves a part of the frozen weights into the adapter, which needs them in "
            "16 bits; use quantization none, or start by loftq"
        )
        yield "adapter.init", text
    if adapter.init == "loftq" and config.quantization != "nf4":
        text = "LoftQ makes up for what 4 bits lose; use quantization nf4, or start by default"
        yield "adapter.init", text


def _of_engines(config: RunConfig, device_kind: str, shape: Shape) -> Found:
    wanted = next((one for one in ENGINES if one.name == config.engine), None)
    if wanted is None or device_kind == AUTO:
        return
    lack = wanted.lacks(config, device_kind, shape)
    if lack:
        yield "engine", f"{wanted.name} {lack}; use auto or peft"


def _of_stored(config: RunConfig, facts: ModelFacts | None) -> Found:
    if facts is None or facts.quantization != "nf4":
        return
    if config.method == "full":
        yield "method", "this model's files are in 4 bits, which cannot be trained; use lora"
    elif config.quantization != "nf4":
        yield "quantization", "this model's files are in 4 bits already; use nf4"
    if config.adapter.init == "loftq":
        text = "LoftQ needs the weights as they were before 4 bits; use default with this model"
        yield "adapter.init", text


def trains_experts(config: RunConfig, shape: Shape) -> bool:
    """Tell whether the adapter is on the experts of a mixture of experts, which lie in one tensor.

    ``all-linear`` takes them in; names of other layers leave them out.
    """
    if config.method == "full" or not shape.experts:
        return False
    chosen = config.adapter.target_modules
    return isinstance(chosen, str) or bool(EXPERTS & set(chosen))


def _of_experts(config: RunConfig, facts: ModelFacts | None) -> Found:
    if facts is None or not trains_experts(config, facts.shape):
        return
    adapter = config.adapter
    cure = "name the layers of attention in adapter.target_modules, or leave it out"
    lacking = {
        "adapter.use_dora": adapter.use_dora,
        "adapter.init": adapter.init != "default",
        "adapter.dropout": adapter.dropout > 0,
    }
    names = {"adapter.use_dora": "DoRA", "adapter.init": "PiSSA or LoftQ"}
    for field, is_asked in lacking.items():
        if is_asked:
            what = names.get(field, "Dropout")
            yield field, f"{what} cannot be had on experts, which lie in one tensor; {cure}"
