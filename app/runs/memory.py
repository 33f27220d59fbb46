"""How much memory a run takes, estimated at once from the model's facts and the spec. Pure.

An estimate for the form and its warning, never a promise: what the trainer measures counts. Knows
neither devices nor the database.

The figures: frozen weights at their precision; what is trained with gradients in 32 bits; two
moments for each trained weight; what a layer keeps for its backward pass, and the logits. Their
factors were fitted to peaks measured on a card, which docs/performance.md lists beside the
estimates.
"""

from dataclasses import dataclass

from app.basemodels.facts import ModelFacts
from app.runs import engines
from app.runs.objectives import KINDS
from app.runs.spec import RunConfig

# 4 bits, a scale of 8 bits for each 64 weights, and one of 32 bits for each 256 of those.
QUANTIZED_BYTES = {"nf4": 0.516, "int8": 1.0}
UNSLOTH_LOGITS = 256  # tokens
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
    config: RunConfig,
    *,
    facts: ModelFacts,
    device_kind: str,
    available: int | None = None,
    tokens: int | None = None,
) -> MemoryEstimate:
    """Return the memory of a run with ``config`` on a device of ``device_kind``.

    ``tokens`` are those of the largest batch; unknown, all of its examples are as long as allowed,
    and of pairs both answers.
    """
    training = config.training
    sequences = training.batch_size * KINDS[config.objective].sequences
    most = sequences * min(training.max_length, facts.context_length)
    trained = trained_parameters(config, facts=facts)
    held = 4 if config.method == "full" else 8  # gradients, and the weights where not counted yet
    return MemoryEstimate(
        weights=_weights(config, facts, device_kind),
        adapter=trained * held,
        optimizer=trained * (2 if _eight_bit(config, device_kind) else 8),
        activations=_activations(config, facts, device_kind, tokens or most),
        runtime=RUNTIME_BYTES["cuda" if device_kind == "cuda" else "cpu"],
        available=available,
    )


def trained_parameters(config: RunConfig, *, facts: ModelFacts) -> int:
    """Return how many weights are trained."""
    if config.method == "full":
        return facts.parameters
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
    table = _table(facts) if config.adapter.train_embeddings is True else 0
    return facts.layers * width + table


def _weights(config: RunConfig, facts: ModelFacts, device_kind: str) -> int:
    if config.method == "full":
        return facts.parameters * 4
    if config.quantization == "none":
        return facts.parameters * _weight_bytes(config, device_kind)
    # PEFT prepares a quantized model by turning all that is not quantized into 32 bits.
    whole = 2 if _is_unsloth(config, facts, device_kind) else 4
    table = _table(facts)
    return round(table * whole + (facts.parameters - table) * QUANTIZED_BYTES[config.quantization])


def _table(facts: ModelFacts) -> int:
    """Return the weights of the embeddings and the head, which stay unquantized."""
    table = facts.vocabulary * facts.hidden_size * (1 if facts.tied_embeddings else 2)
    return min(table, facts.parameters)


def _is_unsloth(config: RunConfig, facts: ModelFacts, device_kind: str) -> bool:
    choice = engines.choose(config, device_kind=device_kind, shape=facts.shape)
    return choice.engine == engines.UNSLOTH


def _weight_bytes(config: RunConfig, device_kind: str) -> int:
    precision = config.training.precision
    if precision == "auto":
        return 2 if device_kind == "cuda" else 4
    return 2 if precision == "bfloat16" else 4


def _eight_bit(config: RunConfig, device_kind: str) -> bool:
    optimizer = config.training.optimizer
    return optimizer == "adamw_8bit" or (optimizer == "auto" and device_kind == "cuda")


def _activations(config: RunConfig, facts: ModelFacts, device_kind: str, tokens: int) -> int:
    twice = config.training.gradient_checkpointing
    twice = device_kind == "cuda" if twice == "auto" else twice
    size, hidden, inner = (
        _weight_bytes(config, device_kind),
        facts.hidden_size,
        facts.intermediate_size,
    )
    layer = 14 * hidden + 4 * inner  # of a token, while the layer's backward pass is made
    if not _is_unsloth(config, facts, device_kind):
        kept = hidden * facts.layers + layer if twice else layer * facts.layers
        logits = facts.vocabulary * 8 if KINDS[config.objective].writes else 0
        return tokens * (kept * size + logits)
    # It moves a layer's input to the machine's memory, and takes the logits a few at a time.
    kept = layer if twice else (9 * hidden + 2 * inner) * facts.layers + 5 * hidden + 2 * inner
    logits = min(tokens, UNSLOTH_LOGITS) * facts.vocabulary * 4
    norms = 8 * 4 * hidden * inner if config.adapter.use_dora else 0  # DoRA's, of whole weights
    return tokens * kept * size + logits + norms
