"""What a preset means for a model, a dataset and a device, each value with its reason. Pure.

A rule decides one field from the case and from what is decided already; what a user gives is never
overruled. Knows neither database nor devices: the caller says what there is.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from app.basemodels.facts import ModelFacts
from app.runs import engines, memory
from app.runs.objectives import KINDS, Rows
from app.runs.spec import Objective, Preset, RunConfig

LEARNING_RATE = 2e-4
AT_WIDTH = 4096
LOWEST_RATE, HIGHEST_RATE = 1e-4, 1e-2
OF_ADAPTER = 10  # times the rate of full fine-tuning
SMALL_WIDTH = 1024  # narrower models learn from scratch what wide ones know: more, larger steps
SMALL_MODEL_STEPS = {Preset.QUICK: 120, Preset.BALANCED: 250, Preset.QUALITY: 400}
SMALL_MODEL_EPOCHS = (1, 10)
EFFECTIVE_BATCH = 8
PROMPTS = 4  # of a step that rewards answers
PACK_FROM = 1000
FEW, MANY, VERY_MANY = 500, 10_000, 50_000  # examples, where advice changes
TINY = 200
LONGEST = 2048
ONCE = {
    Objective.DPO: "Preferences are learned fast; more than once overfits.",
    Objective.KTO: "Preferences are learned fast; more than once overfits.",
    Objective.REWARD: "Preferences are learned fast; more than once overfits.",
    Objective.GRPO: "Each prompt once, answered several times.",
}
CHOSEN = "You chose this."
DEFAULT = "The default."


@dataclass(frozen=True)
class Case:
    """What a preset is resolved for.

    ``device_kind`` is ``auto`` while no worker is there; ``memory_bytes`` is the device's memory,
    ``examples`` are the rows that can be used, ``splits`` the share that each split holds out.
    ``rows`` says what they hold.
    """

    preset: Preset
    examples: int
    facts: ModelFacts
    device_kind: str = "cpu"
    memory_bytes: int | None = None
    splits: Mapping[str, float] | None = None
    rows: Rows = "conversations"

    @property
    def is_small(self) -> bool:
        """Tell whether the model is narrow: a demo or a toy."""
        return self.facts.hidden_size < SMALL_WIDTH

    @property
    def on_gpu(self) -> bool:
        """Tell whether the run is for an NVIDIA card."""
        return self.device_kind == "cuda"


@dataclass(frozen=True)
class Resolved:
    """The complete configuration, and why each field has its value (dotted field → sentence)."""

    config: RunConfig
    reasons: dict[str, str]


Decided = Mapping[str, Any]
Rule = Callable[[Case, Decided], tuple[Any, str]]


def resolve(given: Mapping[str, Any], *, case: Case) -> Resolved:
    """Fill in what ``given`` (dotted field → value) leaves out or leaves to ``auto``."""
    values = flat(RunConfig())
    reasons = dict.fromkeys(values, DEFAULT)
    chosen = {field: value for field, value in given.items() if value != "auto"}
    values.update(chosen)
    reasons.update(dict.fromkeys(chosen, CHOSEN))
    for field, rule in RULES:
        if field not in chosen:
            values[field], reasons[field] = rule(case, values)
    return Resolved(RunConfig.model_validate(nested(values)), reasons)


def flat(part: BaseModel, *, prefix: str = "", only_set: bool = False) -> dict[str, Any]:
    """Return the fields of ``part`` as dotted field → value; ``simulate`` stays one value."""
    found: dict[str, Any] = {}
    for name in type(part).model_fields:
        if only_set and name not in part.model_fields_set:
            continue
        value = getattr(part, name)
        if isinstance(value, BaseModel) and name != "simulate":
            found |= flat(value, prefix=f"{prefix}{name}.", only_set=only_set)
        else:
            found[prefix + name] = value
    return found


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted fields as nested objects."""
    tree: dict[str, Any] = {}
    for field, value in values.items():
        *parents, name = field.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return tree


def learning_rate_for(
    facts: ModelFacts, *, method: str = "lora", objective: Objective = Objective.SFT
) -> float:
    """Return the rate that suits a model's width: 2e-4 at 4,096, growing as 1 / width.

    Weights that are trained themselves take a tenth of what an adapter takes, and preferences a
    share of what answers take.
    """
    rate = min(max(LEARNING_RATE * AT_WIDTH / facts.hidden_size, LOWEST_RATE), HIGHEST_RATE)
    rate *= KINDS[objective].rate
    return float(f"{rate / (OF_ADAPTER if method == 'full' else 1):.3g}")


def steps_of(config: RunConfig, *, examples: int, mean_tokens: float | None = None) -> int | None:
    """Return how many steps a run takes; None where packing hides it (mean length unknown)."""
    if config.objective is Objective.SIMULATED:
        return config.simulate.steps if config.simulate else 100
    training = config.training
    if training.max_steps:
        return training.max_steps
    trained = examples - math.floor(examples * config.data.validation_fraction)
    if training.packing:
        if mean_tokens is None:
            return None
        trained = math.ceil(trained * min(mean_tokens, training.max_length) / training.max_length)
    in_step = training.batch_size * training.gradient_accumulation
    if config.objective is Objective.GRPO:
        in_step = max(1, in_step // config.sampling.num_generations)
    per_epoch = math.ceil(trained / in_step)
    return max(1, math.ceil(per_epoch * training.epochs))


def objective_for(rows: Rows) -> tuple[Objective, str]:
    """Return what a dataset's rows are trained for if nobody says, and why."""
    if rows == "pairs":
        return Objective.DPO, "The dataset holds pairs of answers."
    if rows == "judged":
        return Objective.KTO, "The dataset holds answers that are good or bad."
    return Objective.SFT, "The dataset holds conversations."


def _objective(case: Case, decided: Decided) -> tuple[Objective, str]:
    del decided
    return objective_for(case.rows)


def _quantization(case: Case, decided: Decided) -> tuple[str, str]:
    needed = _needed_bits(case, decided)
    if needed:
        return needed
    if case.facts.quantization == "nf4":
        return "nf4", "This model's files are in 4 bits already."
    if not case.on_gpu:
        return "none", "4 bits need an NVIDIA card; here the weights stay as they are."
    if case.preset is not Preset.QUALITY:
        return "nf4", "QLoRA: the frozen weights in 4 bits take a quarter of the memory."
    plain = RunConfig.model_validate(nested({**decided, "quantization": "none"}))
    size = memory.estimate(plain, facts=case.facts, device_kind="cuda", available=case.memory_bytes)
    if size.fits is False:
        return "nf4", "16 bits do not fit into the card's memory, 4 bits do with less."
    return "none", "16 bits fit into the card's memory, and lose nothing."


def _needed_bits(case: Case, decided: Decided) -> tuple[str, str] | None:
    """Return the quantization that the method asks for, whatever the memory."""
    if decided["method"] == "full":
        return "none", "A full fine-tuning changes all weights, so they stay whole."
    if decided["adapter.init"] == "loftq" and case.on_gpu:
        return "nf4", "LoftQ makes up for what 4 bits lose, so the weights are in 4 bits."
    if decided["adapter.init"] == "pissa" and not case.facts.quantization:
        return "none", "PiSSA changes the frozen weights, which needs them in 16 bits."
    return None


def _engine(case: Case, decided: Decided) -> tuple[str, str]:
    asked = RunConfig.model_validate(nested({**decided, "engine": engines.AUTO}))
    choice = engines.choose(asked, device_kind=case.device_kind, shape=case.facts.shape)
    return choice.engine, choice.reason


def _rank(case: Case, decided: Decided) -> tuple[int, str]:
    del decided
    small, large = {
        Preset.QUICK: (8, 16),
        Preset.BALANCED: (16, 32),
        Preset.QUALITY: (32, 64),
    }[case.preset]
    if case.examples >= MANY:
        return large, "Twice the usual rank, since there are 10,000 examples or more."
    return small, f"The {case.preset} preset's rank for fewer than 10,000 examples."


def _alpha(case: Case, decided: Decided) -> tuple[int, str]:
    del case
    return int(
        decided["adapter.rank"]
    ), "Equal to the rank, so that the learning rate keeps its meaning."


def _use_dora(case: Case, decided: Decided) -> tuple[bool, str]:
    if decided["method"] == "full":
        return False, "A full fine-tuning has no adapter."
    if decided["adapter.init"] != "default":
        return False, "DoRA and another start of the adapter exclude each other."
    if case.preset is Preset.QUALITY and case.on_gpu:
        return True, "A little better at 2.7 × the time (measured on an H200)."
    return False, "Only the quality preset on an NVIDIA card takes it: it costs 2.7 × the time."


def _epochs(case: Case, decided: Decided) -> tuple[float, str]:
    objective = Objective(decided["objective"])
    if case.is_small and objective is not Objective.GRPO:
        return _epochs_of_small(case, decided)
    if case.preset is Preset.QUICK:
        return 1, "A first look: each example once."
    if objective in ONCE:
        return 1, ONCE[objective]
    if case.examples < FEW:
        return 2, "Fewer than 500 examples: more than 2 epochs would learn them by heart."
    if case.preset is Preset.BALANCED and case.examples >= VERY_MANY:
        return 1, "50,000 examples or more: once is enough for most."
    return 3, "From 500 examples on, 3 epochs learn most without overfitting."


def _epochs_of_small(case: Case, decided: Decided) -> tuple[float, str]:
    steps = SMALL_MODEL_STEPS[case.preset]
    trained = max(1.0, case.examples * (1 - decided["data.validation_fraction"]))
    lowest, highest = SMALL_MODEL_EPOCHS
    epochs = min(max(round(steps * EFFECTIVE_BATCH / trained), lowest), highest)
    return epochs, f"A model this small needs about {steps} steps to learn something new."


def _learning_rate(case: Case, decided: Decided) -> tuple[float, str]:
    objective, method = Objective(decided["objective"]), str(decided["method"])
    rate, width = learning_rate_for(case.facts, objective=objective), case.facts.hidden_size
    if method == "full":
        rate = learning_rate_for(case.facts, method=method, objective=objective)
        return rate, f"A tenth of what an adapter of this model takes ({width:,} wide)."
    if objective is not Objective.SFT:
        share = KINDS[objective].rate
        return (
            rate,
            f"{share:.0%} of what learning from examples takes: {objective} moves a model fast.",
        )
    if case.preset is Preset.QUALITY and not case.is_small:
        return max(
            rate / 2, LOWEST_RATE
        ), f"Half of {rate:g}, which suits width {width:,}: slower and steadier."
    return rate, f"2e-4 suits width 4,096; it grows as 1 / width, and this model has {width:,}."


def _max_length(case: Case, decided: Decided) -> tuple[int, str]:
    del decided
    if case.facts.context_length < LONGEST:
        return case.facts.context_length, "All that this model can read."
    return (
        LONGEST,
        "Long enough for most conversations; twice the length costs 1.5 to 2 × the memory.",
    )


def _completion(case: Case, decided: Decided) -> tuple[int, str]:
    del case
    most = int(decided["training.max_length"])
    usual = RunConfig().sampling.max_completion_length
    if decided["objective"] != Objective.GRPO:
        return usual, DEFAULT
    return min(usual, most // 2), "Half of max_length at most, the rest is for the prompt."


def _packing(case: Case, decided: Decided) -> tuple[bool, str]:
    if decided["objective"] != Objective.SFT:
        return False, "Answers are compared one by one, so none share a sequence."
    if case.examples < PACK_FROM:
        return False, "Fewer than 1,000 examples: packed they would leave too few steps to learn."
    return True, "Several examples share a sequence, kept apart: no time goes into padding."


def _batch_size(case: Case, decided: Decided) -> tuple[int, str]:
    accumulation = decided["training.gradient_accumulation"]
    if decided["objective"] == Objective.GRPO:
        return int(decided["sampling.num_generations"]), "The answers to one prompt at once."
    if case.is_small:
        return EFFECTIVE_BATCH, "A model this small takes 8 at once."
    if decided["training.packing"]:
        return (
            1 if accumulation >= EFFECTIVE_BATCH else 2,
            "Few at once, summed up, take the least memory.",
        )
    return 2, "2 at once, 4 times summed up: 8 examples a step."


def _accumulation(case: Case, decided: Decided) -> tuple[int, str]:
    del case
    batch = int(decided["training.batch_size"])
    if decided["objective"] == Objective.GRPO:
        return PROMPTS, f"{PROMPTS} prompts a step."
    times = max(1, round(EFFECTIVE_BATCH / batch))
    return times, f"{batch} × {times} = {batch * times} examples a step."


def _optimizer(case: Case, decided: Decided) -> tuple[str, str]:
    del decided
    if case.on_gpu:
        return "adamw_8bit", "Its state takes a quarter of the memory, at the same result."
    if case.device_kind in engines.HOSTS:
        return "adamw", "8-bit states need an NVIDIA card."
    return "auto", "Decided when a device takes the run."


def _precision(case: Case, decided: Decided) -> tuple[str, str]:
    del decided
    if case.device_kind == "cpu":
        return "float32", "A CPU computes in 32 bits, exactly repeatable."
    if case.device_kind == "mps":
        return "float32", "The same losses as on a CPU; bfloat16 takes half the memory."
    return "auto", "bfloat16 on cards that have it."


def _checkpointing(case: Case, decided: Decided) -> tuple[bool | str, str]:
    del decided
    if case.device_kind == "cpu" or (case.on_gpu and case.is_small):
        return False, "Memory is no concern here, so no time is spent to save it."
    if case.device_kind in (engines.CUDA, engines.MPS):
        return True, "Saves most of the activations' memory for about a fifth more time."
    return "auto", "Decided when a device takes the run."


def _validation_fraction(case: Case, decided: Decided) -> tuple[float, str]:
    known: Mapping[str, float] = case.splits or {}
    share = known.get(decided.get("data.split") or "")
    if share is not None:
        return round(min(share, 0.5), 3), "About the share that the named split holds out."
    if case.examples < TINY:
        return 0.2, "Fewer than 200 examples: a fifth is needed to say anything."
    if case.examples >= VERY_MANY:
        return 0.02, "Of so many examples 2 % are plenty to measure with."
    return 0.1, "A tenth of the examples is held out to measure with."


def _patience(case: Case, decided: Decided) -> tuple[int | None, str]:
    if case.preset is Preset.QUICK or not decided["data.validation_fraction"]:
        return None, "No early stop: the run goes to its end."
    return 5, "Stops when the validation loss has not improved 5 times in a row."


RULES: tuple[tuple[str, Rule], ...] = (
    ("objective", _objective),
    ("data.validation_fraction", _validation_fraction),
    ("adapter.rank", _rank),
    ("adapter.alpha", _alpha),
    ("adapter.use_dora", _use_dora),
    ("training.epochs", _epochs),
    ("training.learning_rate", _learning_rate),
    ("training.max_length", _max_length),
    ("sampling.max_completion_length", _completion),
    ("training.packing", _packing),
    ("training.batch_size", _batch_size),
    ("training.gradient_accumulation", _accumulation),
    ("training.optimizer", _optimizer),
    ("training.precision", _precision),
    ("training.gradient_checkpointing", _checkpointing),
    ("quantization", _quantization),
    ("engine", _engine),
    ("evaluation.early_stopping_patience", _patience),
)
