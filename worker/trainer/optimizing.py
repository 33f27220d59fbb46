"""The optimizer over what is trained, the learning rate it is given, and the step it makes.

Knows which weights are trained, not what they are trained for. A group of weights may learn faster
or slower than the others: its ``rate_ratio`` says how many times.
"""

from collections.abc import Iterator, Mapping

import torch

from app.runs.spec import RunConfig
from worker.trainer.loading import Loaded
from worker.trainer.ranks import Ranks


class TornStep(Exception):  # its cause says what happened
    """A step ended while it changed the weights: some are of this step, some of the one before."""


def build_optimizer(loaded: Loaded, config: RunConfig) -> torch.optim.Optimizer:
    """Return AdamW over the trained weights; vectors are not decayed."""
    plan = config.training
    groups = [
        {"params": weights, "weight_decay": decay, "rate_ratio": ratio}
        for weights, decay, ratio in grouped(loaded.trainable(), config)
    ]
    if plan.optimizer == "adamw" or loaded.device != "cuda":
        fused = loaded.device == "cuda"
        optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, fused=fused)
    else:
        from bitsandbytes.optim import AdamW8bit  # only where a card is

        optimizer = AdamW8bit(groups, lr=plan.learning_rate)
    set_rate(optimizer, plan.learning_rate)
    return optimizer


def grouped(
    trained: Mapping[str, torch.nn.Parameter], config: RunConfig
) -> Iterator[tuple[list[torch.nn.Parameter], float, float]]:
    """Yield weights that learn alike, with their decay and how many times faster they learn.

    LoRA+ (Hayou et al., 2024) lets an adapter's second matrix learn faster, and as PEFT's own does,
    its vectors.
    """
    decay, ratio = config.training.weight_decay, config.adapter.lora_plus_ratio
    found: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, weight in trained.items():
        is_vector = weight.ndim <= 1
        times = ratio if is_vector or ".lora_B." in name else 1.0
        found.setdefault((0.0 if is_vector else decay, times), []).append(weight)
    for (decays, times), weights in found.items():
        yield weights, decays, times


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group of weights its learning rate for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_ratio", 1.0)


def update(
    loaded: Loaded,
    optimizer: torch.optim.Optimizer,
    config: RunConfig,
    ranks: Ranks,
    *sums: torch.Tensor,
) -> float:
    """Make a step by the gradients of all ranks; return their norm before the cut.

    ``sums`` are replaced by those over all ranks. Raises ``TornStep`` if the weights may be torn.
    """
    trained = list(loaded.trainable().values())
    ranks.add_up(trained, *sums)
    norm = torch.nn.utils.clip_grad_norm_(trained, config.training.max_grad_norm)
    try:
        optimizer.step()
    except Exception as error:
        raise TornStep from error
    optimizer.zero_grad(set_to_none=True)
    return norm.item()
