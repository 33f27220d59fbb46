"""What can be learned: which data each objective takes, what speaks against it, its figures. Pure.

One entry for each: the form, a launch, presets, sweeps and the memory estimate ask here. How it is
trained is the recipe of its name in the trainer. Knows neither datasets nor devices.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from app.runs import rewards
from app.runs.spec import Objective, RunConfig

Rows = Literal["conversations", "pairs", "judged"]  # what a dataset's rows hold
Goal = Literal["min", "max"]


@dataclass(frozen=True)
class Kind:
    """An objective as people choose it.

    ``takes`` says which rows; ``sequences`` how many a row of a batch becomes; ``rate`` is the
    share of the learning rate that suits supervised fine-tuning; ``writes`` whether what it leaves
    answers in words, ``can_be_tried`` whether a preflight can do its steps; ``settings`` are the
    fields and parts of the config that it alone reads; ``figures`` are those of a validation by
    which runs can be compared, with which end is better.
    """

    title: str
    short: str
    text: str
    takes: tuple[Rows, ...]
    sequences: int = 1
    rate: float = 1.0
    needs_before: bool = False  # the model as it was before training
    writes: bool = True
    can_be_tried: bool = True
    settings: tuple[str, ...] = ()
    figures: Mapping[str, Goal] = field(default_factory=dict[str, Goal])


ACCURACIES = "eval/rewards/accuracies"
_LOSS: Mapping[str, Goal] = {"eval/loss": "min"}
_PAIRS: Mapping[str, Goal] = {
    **_LOSS,
    ACCURACIES: "max",
    "eval/rewards/margins": "max",
}

KINDS: Mapping[Objective, Kind] = {
    Objective.SFT: Kind(
        "Supervised fine-tuning (SFT)",
        "SFT",
        "Learns to answer as the dataset's assistant does.",
        ("conversations",),
        figures={**_LOSS, "eval/perplexity": "min"},
    ),
    Objective.DPO: Kind(
        "Direct preference optimization (DPO)",
        "DPO",
        "Learns from pairs which of two answers is better, held to what the model was.",
        ("pairs",),
        sequences=2,
        rate=0.05,
        needs_before=True,
        settings=("preference.beta", "preference.label_smoothing"),
        figures=_PAIRS,
    ),
    Objective.ORPO: Kind(
        "Odds ratio preference optimization (ORPO)",
        "ORPO",
        "Learns the better answer of each pair and away from the worse one, in one go.",
        ("pairs",),
        sequences=2,
        rate=0.25,
        settings=("preference.beta",),
        figures=_PAIRS,
    ),
    Objective.KTO: Kind(
        "Kahneman-Tversky optimization (KTO)",
        "KTO",
        "Learns from single answers that are good or bad; pairs serve too.",
        ("judged", "pairs"),
        rate=0.05,
        needs_before=True,
        settings=(
            "preference.beta",
            "preference.desirable_weight",
            "preference.undesirable_weight",
        ),
        figures={**_LOSS, "eval/rewards/margins": "max"},
    ),
    Objective.REWARD: Kind(
        "Reward model",
        "Reward model",
        "Learns to tell better answers from worse ones: gives each a number, and writes none.",
        ("pairs",),
        sequences=2,
        rate=0.5,
        writes=False,
        figures={**_LOSS, "eval/accuracy": "max", "eval/margin": "max"},
    ),
    Objective.GRPO: Kind(
        "Reinforcement by rewards (GRPO)",
        "GRPO",
        "Tries several answers to each prompt and learns from those that are worth more.",
        ("conversations",),
        rate=0.05,
        can_be_tried=False,
        settings=("sampling.", "rewards."),
        figures={**_LOSS, "eval/reward": "max"},
    ),
    Objective.SIMULATED: Kind(
        "Simulated",
        "Simulated",
        "Trains nothing; for tests.",
        (),
        can_be_tried=False,
        figures=_LOSS,
    ),
}


_SPECIAL = ("preference.", "sampling.", "rewards.")  # parts that some objectives read
_OF_CONVERSATIONS = frozenset(
    {"training.packing", "training.assistant_only_loss", "training.neftune_alpha"}
)
_HELD: Mapping[Rows, str] = {
    "conversations": "conversations",
    "pairs": "pairs of answers",
    "judged": "answers that are good or bad by themselves",
}


def of_rows(rows: Rows) -> tuple[Objective, ...]:
    """Return what rows can be used for."""
    return tuple(one for one in KINDS if mismatch(one, rows) is None and KINDS[one].takes)


def mismatch(objective: Objective, rows: Rows) -> str | None:
    """Return why a dataset's rows do not serve an objective, with the cure; None if they do."""
    taken = KINDS[objective].takes
    if not taken or rows in taken:
        return None
    others = [one.value for one, kind in KINDS.items() if rows in kind.takes]
    wanted = " or ".join(_HELD[one] for one in taken)
    return (
        f"it holds {_HELD[rows]}, and {objective.value} learns from {wanted}; choose the objective "
        f"{' or '.join(others)}, or another dataset"
    )


def refusals(config: RunConfig) -> dict[str, str]:
    """Return what an objective cannot be had with, by field, each with a cure."""
    found = dict(_of_settings(config))
    if config.objective not in (Objective.SFT, Objective.SIMULATED):
        for check in (_of_answers, _of_sampling):
            for name, text in check(config):
                found.setdefault(name, text)
    return found


def reads(objective: Objective, field: str) -> bool:
    """Tell whether a dotted field is read by an objective; of most fields it is."""
    if field in _OF_CONVERSATIONS:
        return objective is Objective.SFT
    if field == "fit":
        return KINDS[objective].can_be_tried
    return not field.startswith(_SPECIAL) or field.startswith(KINDS[objective].settings or "-")


def _of_settings(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield the settings of other objectives that were given."""
    plain = RunConfig()
    for part in _SPECIAL:
        mine, usual = getattr(config, part[:-1]), getattr(plain, part[:-1])
        for name in type(mine).model_fields:
            path = part + name
            if getattr(mine, name) != getattr(usual, name) and not reads(config.objective, path):
                users = ", ".join(one.value for one in KINDS if reads(one, path))
                yield path, f"it is for {users}; leave it out"


def _of_answers(config: RunConfig) -> Iterator[tuple[str, str]]:
    kind, training, name = KINDS[config.objective], config.training, config.objective.value
    if kind.needs_before and config.method == "full":
        yield "method", f"{name} asks the model as it was before, which an adapter keeps; use lora"
    if training.packing:
        yield "training.packing", f"{name} learns answers, not whole rows; use false"
    if not training.assistant_only_loss:
        yield "training.assistant_only_loss", f"{name} learns the answers only; use true"
    if training.neftune_alpha is not None:
        yield "training.neftune_alpha", f"noise would blur what {name} compares; leave it out"
    if config.fit != "off" and not kind.can_be_tried:
        yield "fit", f"{name} cannot be tried before it runs; use off"
    in_step = training.batch_size * training.gradient_accumulation
    if config.objective is Objective.KTO and in_step < 2:  # noqa: PLR2004  # answers to exchange
        text = "kto compares the answers of a step with each other; use 2 or more"
        yield "training.batch_size", text


def _of_sampling(config: RunConfig) -> Iterator[tuple[str, str]]:
    if config.objective is not Objective.GRPO:
        return
    training, sampling = config.training, config.sampling
    if config.method == "full" and sampling.beta:
        yield "sampling.beta", "what the model was is kept by an adapter only; use 0, or lora"
    in_step = training.batch_size * training.gradient_accumulation
    if in_step % sampling.num_generations:
        yield (
            "sampling.num_generations",
            f"a step has {in_step} answers (batch size × accumulation), which this does not divide",
        )
    if sampling.max_completion_length >= training.max_length:
        text = f"no room is left for a prompt within max_length ({training.max_length:,})"
        yield "sampling.max_completion_length", text
    for name, text in rewards.problems(config.rewards):
        yield f"rewards.{name}", text
