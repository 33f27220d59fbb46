"""The same run on one card and on several: equal losses, and what a step costs.

    python -m tests.gpu.ranks OUT_DIR --size 1b --cards 2

Writes ranks-SIZE.json into OUT_DIR and ends with 1 if a loss differs by more than 1e-3.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from app.jobs.state import EXIT_DONE
from tests.gpu.throughput import WORK, Figures, events, job, losses, moment, start

STEPS, SKIPPED = 14, 4
BOUND = 1e-3


def measured(model: Path, *, cards: int, quantization: str) -> dict[str, Any]:
    """Run our trainer on so many cards; return its losses and the seconds of a step."""
    training = {"packing": True, "max_steps": STEPS, "learning_rate": 1e-4}
    folder = job(f"ranks-{cards}-{quantization}", model, training, quantization=quantization)
    spec = json.loads((folder / "spec.json").read_text())
    spec["run"]["resources"] = {"devices": cards, "kind": "cuda"}
    (folder / "spec.json").write_text(json.dumps(spec))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(cards)))  # noqa: TID251  # as leased
    code = start(folder).wait()
    if code != EXIT_DONE:
        print((folder / "log.txt").read_text()[-6000:])
        sys.exit(f"the run on {cards} cards ended with {code}")
    steps = [e for e in events(folder) if "train/loss" in e["values"]]
    seconds = [moment(b) - moment(a) for a, b in itertools.pairwise(steps[SKIPPED:])]
    return {"losses": losses(folder), "step_seconds": median(seconds)}


def main() -> int:
    """Compare; return 1 if a loss differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="1b", choices=["tiny", "1b", "8b"])
    parser.add_argument("--cards", type=int, default=2)
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    figures, model = (
        Figures(chosen.out / f"ranks-{chosen.size}.json"),
        WORK / f"model-{chosen.size}",
    )
    if not model.is_dir():
        command = [sys.executable, "-m", "tests.gpu.baseline", "make", str(model), chosen.size]
        subprocess.run(command, check=True)
    for quantization in ("none", "nf4"):
        one = measured(model, cards=1, quantization=quantization)
        more = measured(model, cards=chosen.cards, quantization=quantization)
        gap = max(abs(one["losses"][step] - more["losses"][step]) for step in one["losses"])
        figures.add(f"{quantization} one card", one)
        figures.add(f"{quantization} {chosen.cards} cards", more)
        figures.add(f"{quantization} largest gap of a loss", gap, kept=gap <= BOUND)
        figures.add(f"{quantization} times faster", one["step_seconds"] / more["step_seconds"])
    return int(figures.broken > 0)


if __name__ == "__main__":
    sys.exit(main())
