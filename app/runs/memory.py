"""How much memory a run takes, estimated at once from the model's facts and the spec. Pure.

An estimate for the form and its warning, never a promise: what the trainer measures counts. Knows
neither devices nor the database.

The figures: frozen weights at their precision; the adapter with gradients in 32 bits; two moments
for each trained weight; activations of the checkpointed or plain layers plus the logits, which
dominate for large vocabularies. Checked against the table in docs/runs.md.
"""

from dataclasses import dataclass

from app.basemodels.facts import ModelFacts
from app.runs.spec import RunConfig

NF4_BYTES = 0.56  # 4 bits and the scales of each block of 64, themselves quantized
RUNTIME_BYTES = {"cuda": 700 * 2**20, "cpu": 300 * 2**20}  # context, kernels, allocator's slack


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by what they are for; ``available`` is the device's memory, None while unknown."""

    weights: int
    adapter: int
    optimizer: int
    activations: int
    runtime: int
    available: int | None = None

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.adapter + self.optimizer + self.activations + self.runtime

    @property
    def free(self) -> int | None:
        """What is left of the device, in bytes; negative where it does not fit."""
        return None if self.available is None else self.available - self.total

    @property
    def fits(self) -> bool | None:
        """Tell whether it fits; None while the device is unknown."""
        return None if self.free is None else self.free >= 0


def estimate(
    config: RunConfig, *, facts: ModelFacts, device_kind: str, available: int | None = None
) -> MemoryEstimate:
    """Return the memory of a run with ``config`` on a device of ``device_kind``."""
    trained = trained_parameters(config, facts=facts)
    return MemoryEstimate(
        weights=_weights(config, facts, device_kind),
        adapter=trained * 4 * 2,
        optimizer=trained * (2 if _eight_bit(config, device_kind) else 8),
        activations=_activations(config, facts, device_kind),
        runtime=RUNTIME_BYTES["cuda" if device_kind == "cuda" else "cpu"],
        available=available,
    )


def trained_parameters(config: RunConfig, *, facts: ModelFacts) -> int:
    """Return how many weights the adapter has."""
    hidden, inner, kv = facts.hidden_size, facts.intermediate_size, facts.kv_size
    shapes = {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden, kv),
        "v_proj": (hidden, kv),
        "o_proj": (hidden, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    wanted = config.adapter.target_modules
    chosen = [shape for name, shape in shapes.items() if wanted == "all-linear" or name in wanted]
    width = sum(
        config.adapter.rank * (inputs + outputs) + (outputs if config.adapter.use_dora else 0)
        for inputs, outputs in chosen
    )
    return facts.layers * width


def _weights(config: RunConfig, facts: ModelFacts, device_kind: str) -> int:
    if config.quantization != "nf4":
        return facts.parameters * _weight_bytes(config, device_kind)
    table = facts.vocabulary * facts.hidden_size * (1 if facts.tied_embeddings else 2)
    table = min(table, facts.parameters)  # embeddings and the head stay in 16 bits
    return round(table * 2 + (facts.parameters - table) * NF4_BYTES)


def _weight_bytes(config: RunConfig, device_kind: str) -> int:
    precision = config.training.precision
    if precision == "auto":
        return 2 if device_kind == "cuda" else 4
    return 2 if precision == "bfloat16" else 4


def _eight_bit(config: RunConfig, device_kind: str) -> bool:
    optimizer = config.training.optimizer
    return optimizer == "adamw_8bit" or (optimizer == "auto" and device_kind == "cuda")


def _activations(config: RunConfig, facts: ModelFacts, device_kind: str) -> int:
    training = config.training
    tokens = training.batch_size * min(training.max_length, facts.context_length)
    size = _weight_bytes(config, device_kind)
    checkpointing = training.gradient_checkpointing
    if checkpointing == "auto":
        checkpointing = device_kind == "cuda"
    layer = (14 * facts.hidden_size + 4 * facts.intermediate_size) * size
    kept = (
        facts.hidden_size * size * facts.layers + layer if checkpointing else layer * facts.layers
    )
    logits = facts.vocabulary * 4 * (2 if device_kind == "cpu" else 1)
    return tokens * (kept + logits)
