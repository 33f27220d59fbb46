"""Packed beside alone, on a card in 16 bits: equal losses and gradients, family by family.

    python -m tests.gpu.packing OUT_DIR [--engine peft]

Eight examples of many lengths go through a tiny model at once and one by one, forward and back.
In 32 bits the two must agree to 1e-5. In 16 bits the losses must agree to 2e-3, and packed
gradients may lie no further from those in 32 bits than the ones of examples alone do, but for 2e-3
of their norm. Writes packing-ENGINE.json into OUT_DIR and ends with 1 if they do not.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fixtures.tiny_families import FAMILIES, make_family
from tests.gpu.throughput import WORK, Figures
from tests.worker.trainer_jobs import write_job

EXACT, NEAR = 1e-5, 2e-3
EXAMPLES, LONGEST = 8, 120  # longer than the windows of 64


def measured(model: Path, engine: str, precision: str) -> dict[str, Any]:
    """Return loss and gradient of the examples at once and one by one."""
    from app.runs.spec import TrainerJob
    from worker.trainer.data import IGNORED, Encoded
    from worker.trainer.loading import load

    config = {
        "engine": engine,
        "adapter": {"rank": 8, "alpha": 16},
        "training": {"precision": precision, "max_length": 512},
    }
    folder = write_job(WORK / "packing", config, model=model, dataset="none")
    content = json.loads((folder / "spec.json").read_text())
    loaded = load(TrainerJob.model_validate({**content, "device": "cuda"}))
    loaded.model.train()
    warm(loaded)
    chance = random.Random(0)
    size = loaded.model.config.vocab_size - 16
    examples = []
    for number in range(EXAMPLES):
        ids = [chance.randrange(3, size) for _ in range(chance.randrange(9, LONGEST))]
        examples.append(Encoded(number, ids, [IGNORED, *ids[1:]]))
    at_once = passed(loaded, [[examples]])
    alone = passed(loaded, [[[one]] for one in examples])
    return {"form": loaded.form.name, "engine": loaded.engine, "packed": at_once, "alone": alone}


def warm(loaded: Any) -> None:
    """Move the adapter off its start, where half of the gradients are zero."""
    import torch

    torch.manual_seed(1)
    for weight in loaded.trainable().values():
        weight.data += 0.05 * torch.randn_like(weight)


def passed(loaded: Any, batches: Sequence[Sequence[Sequence[Any]]]) -> tuple[float, Any]:
    """Return the loss per token over batches, and the gradient as one vector."""
    import torch

    from worker.trainer import packing
    from worker.trainer.recipes.sft import one_batch

    tokens = sum(packing.count_trained(rows) for rows in batches)
    learned = torch.tensor(tokens, device=loaded.device)
    for weight in loaded.trainable().values():
        weight.grad = None
    loss = sum(one_batch(loaded, rows, learned).item() for rows in batches)
    parts = [weight.grad.float().flatten() for weight in loaded.trainable().values()]
    return loss, torch.cat(parts)


def gap(one: Any, other: Any) -> float:
    """Return the length of a difference, as a share of the other's."""
    return ((one - other).norm() / other.norm()).item()


def compare(figures: Figures, family: str, engine: str) -> None:
    """Measure a family in 16 bits, and in 32 where the engine computes in them."""
    model = make_family(WORK / f"tiny-{family}", family)
    half = measured(model, engine, "bfloat16")
    loss = abs(half["packed"][0] - half["alone"][0]) / half["alone"][0]
    found: dict[str, Any] = {"form": half["form"], "engine": half["engine"], "loss": loss}
    kept = loss <= NEAR
    whole = measured(model, engine, "float32")
    exact = gap(whole["packed"][1], whole["alone"][1])
    packed, alone = (gap(half[one][1], whole["alone"][1]) for one in ("packed", "alone"))
    found |= {"gradient_in_32_bits": exact, "packed_to_32": packed, "alone_to_32": alone}
    found["packed_to_alone"] = gap(half["packed"][1], half["alone"][1])
    kept = kept and packed <= alone + NEAR and (engine == "unsloth" or exact <= EXACT)
    figures.add(family, found, kept=kept)


def main() -> int:
    """Compare every family; return 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=["peft", "unsloth"], default="peft")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    figures = Figures(chosen.out / f"packing-{chosen.engine}.json")
    for family in chosen.families:
        compare(figures, family, chosen.engine)
    return int(figures.broken > 0)


if __name__ == "__main__":
    sys.exit(main())
