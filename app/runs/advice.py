"""What experience says of a configuration, field by field, with a cure of one click. Pure.

Advice stops nobody: what cannot run is an error of ``service``. Knows neither database nor devices.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.basemodels.facts import ModelFacts
from app.runs import memory, presets
from app.runs.spec import RunConfig

TOO_HIGH, TOO_LOW = 2.5, 0.05  # times the rate that suits the model's width
FEW_STEPS = 20
LARGE_RANK = 32
FEW_EPOCHS, MANY_EPOCHS = 2, 3
HELD_OUT = 0.1


class Severity(StrEnum):
    """How much an advice matters."""

    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True)
class Advice:
    """A sentence for the field ``field`` (dotted, as in the configuration).

    ``cure`` gives new values by field, ``label`` is what its link says.
    """

    field: str
    severity: Severity
    text: str
    cure: dict[str, Any] | None = None
    label: str = ""


@dataclass(frozen=True)
class Subject:
    """What is judged: the configuration and what it is for."""

    config: RunConfig
    facts: ModelFacts
    examples: int
    device_kind: str
    memory_bytes: int | None = None
    mean_tokens: float | None = None


def advise(subject: Subject) -> list[Advice]:
    """Return all advice on ``subject``, in the order of the form."""
    return [advice for rule in RULES for advice in rule(subject)]


def _warning(field: str, text: str, label: str = "", **cure: Any) -> Advice:
    return Advice(field, Severity.WARNING, text, _dotted(cure), label)


def _hint(field: str, text: str, label: str = "", **cure: Any) -> Advice:
    return Advice(field, Severity.HINT, text, _dotted(cure), label)


def _dotted(cure: dict[str, Any]) -> dict[str, Any] | None:
    return {field.replace("__", "."): value for field, value in cure.items()} or None


def _quantization(it: Subject) -> Iterator[Advice]:
    if it.device_kind != "cuda" or it.facts.quantization:
        return
    plain = it.config.model_copy(update={"quantization": "none"})
    size = memory.estimate(plain, facts=it.facts, device_kind="cuda", available=it.memory_bytes)
    if it.config.quantization == "nf4" and size.fits:
        text = "16 bits fit into this card's memory too, train faster and lose nothing."
        yield _hint("quantization", text, "Use 16 bits", quantization="none")
    if it.config.quantization == "none" and size.fits is False:
        text = "The weights in 16 bits do not fit into this card's memory. QLoRA takes a quarter."
        yield _warning("quantization", text, "Use 4 bits", quantization="nf4")


def _memory(it: Subject) -> Iterator[Advice]:
    size = memory.estimate(
        it.config, facts=it.facts, device_kind=it.device_kind, available=it.memory_bytes
    )
    if size.fits is not False:
        return
    training = it.config.training
    there = (size.available or 0) / 2**30
    needed = f"About {size.total / 2**30:.1f} GiB are needed and {there:.1f} GiB are there."
    if training.batch_size > 1:
        half, twice = training.batch_size // 2, training.gradient_accumulation * 2
        yield _warning(
            "training.batch_size",
            f"{needed} Half the batch with twice the accumulation learns the same in less.",
            f"Use {half} × {twice}",
            training__batch_size=half,
            training__gradient_accumulation=twice,
        )
    elif training.max_length > 512:  # noqa: PLR2004  # shorter cuts most conversations
        half = training.max_length // 2
        text = f"{needed} Half the length takes about half the activations."
        yield _warning("training.max_length", text, f"Use {half:,}", training__max_length=half)
    else:
        yield _warning("training.max_length", f"{needed} Choose a smaller base model.")


def _rank(it: Subject) -> Iterator[Advice]:
    rank = it.config.adapter.rank
    if it.examples >= presets.MANY and rank < LARGE_RANK:
        text = "With 10,000 examples or more, a rank of 32 to 64 learns more of them."
        yield _hint(
            "adapter.rank", text, "Use 32", adapter__rank=LARGE_RANK, adapter__alpha=LARGE_RANK
        )
    if it.examples < presets.PACK_FROM and rank > 2 * LARGE_RANK:
        text = "So large an adapter learns fewer than 1,000 examples by heart."
        yield _warning("adapter.rank", text, "Use 16", adapter__rank=16, adapter__alpha=16)


def _alpha(it: Subject) -> Iterator[Advice]:
    adapter = it.config.adapter
    if adapter.alpha > 2 * adapter.rank or 2 * adapter.alpha < adapter.rank:
        text = "Far from the rank it acts like another learning rate; equal to it is a good start."
        yield _warning("adapter.alpha", text, f"Use {adapter.rank}", adapter__alpha=adapter.rank)


def _variant(it: Subject) -> Iterator[Advice]:
    if it.config.adapter.use_dora:
        text = "DoRA takes 2.7 × the time (measured on an H200) for a small gain."
        yield _hint("adapter.use_dora", text, "Switch off", adapter__use_dora=False)


def _learning_rate(it: Subject) -> Iterator[Advice]:
    rate = it.config.training.learning_rate
    good = presets.learning_rate_for(
        it.facts, method=it.config.method, objective=it.config.objective
    )
    if rate > TOO_HIGH * good:
        text = f"Above {good:g} a run of this kind and model often forgets or diverges."
    elif rate < TOO_LOW * good:
        text = f"So far below {good:g} this model will hardly learn."
    else:
        return
    yield _warning("training.learning_rate", text, f"Use {good:g}", training__learning_rate=good)


def _epochs(it: Subject) -> Iterator[Advice]:
    epochs = it.config.training.epochs
    if it.facts.hidden_size < presets.SMALL_WIDTH:
        return
    if it.examples < presets.FEW and epochs > FEW_EPOCHS:
        text = "With fewer than 500 examples, more than 2 epochs learn them by heart."
        yield _warning("training.epochs", text, "Use 2", training__epochs=FEW_EPOCHS)
    elif epochs > MANY_EPOCHS:
        text = "After 3 epochs the validation loss usually rises: overfitting."
        yield _warning("training.epochs", text, "Use 3", training__epochs=MANY_EPOCHS)


def _steps(it: Subject) -> Iterator[Advice]:
    config = it.config
    steps = presets.steps_of(config, examples=it.examples, mean_tokens=it.mean_tokens)
    if steps is None or steps >= FEW_STEPS:
        return
    text = f"Only {steps} steps: too few to learn much."
    if config.training.packing:
        yield _warning(
            "training.packing",
            f"{text} Packing leaves few sequences.",
            "Do not pack",
            training__packing=False,
        )
    else:
        yield _warning("training.epochs", f"{text} Add examples or epochs.")


def _max_length(it: Subject) -> Iterator[Advice]:
    context = it.facts.context_length
    if it.config.training.max_length > context:
        text = f"This model was made for at most {context:,} tokens."
        yield _warning(
            "training.max_length", text, f"Use {context:,}", training__max_length=context
        )


def _loss(it: Subject) -> Iterator[Advice]:
    if not it.config.training.assistant_only_loss:
        text = "The model will learn to write the user's turns as well."
        yield _warning(
            "training.assistant_only_loss",
            text,
            "Learn answers only",
            training__assistant_only_loss=True,
        )


def _validation(it: Subject) -> Iterator[Advice]:
    fraction = it.config.data.validation_fraction
    if fraction == 0:
        text = "Without held-out examples there is no validation loss and no evaluation."
        yield _warning(
            "data.validation_fraction", text, "Hold out 10 %", data__validation_fraction=HELD_OUT
        )
    elif fraction < HELD_OUT and it.examples < presets.MANY:
        text = "Hold out 10 to 20 % of so few examples, or the evaluation says little."
        yield _hint(
            "data.validation_fraction", text, "Hold out 10 %", data__validation_fraction=HELD_OUT
        )


def _early_stop(it: Subject) -> Iterator[Advice]:
    field = "evaluation.early_stopping_patience"
    if it.config.evaluation.early_stopping_patience and it.config.data.validation_fraction == 0:
        yield _warning(field, "Without held-out examples nothing can stop the run early.")


RULES: tuple[Callable[[Subject], Iterator[Advice]], ...] = (
    _quantization,
    _rank,
    _alpha,
    _variant,
    _learning_rate,
    _epochs,
    _steps,
    _memory,
    _max_length,
    _loss,
    _validation,
    _early_stop,
)
