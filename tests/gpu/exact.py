"""The same run twice on a card: equal losses within 1e-3, and bit for bit where it asks for it.

    python -m tests.gpu.exact OUT_DIR --model FOLDER

Trains a tiny random model twice in each setting. Writes exact.json into OUT_DIR and ends with 1 if
two runs differ by more than they may.
"""

import argparse
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.jobs.state import EXIT_DONE
from tests.gpu.throughput import WORK, Figures, job, losses, start

STEPS, NEAR = 20, 1e-3
SETTINGS: Mapping[str, dict[str, Any]] = {
    "unsloth nf4": {"quantization": "nf4"},
    "peft nf4": {"quantization": "nf4", "engine": "peft"},
    "deterministic nf4": {"quantization": "nf4", "deterministic": True},
    "deterministic 16 bits": {"quantization": "none", "deterministic": True},
}


def made(name: str, model: Path, config: Mapping[str, Any]) -> Path:
    """Write a job folder; return it."""
    fields = dict(config)
    training = {"max_steps": STEPS, "deterministic": fields.pop("deterministic", False)}
    return job(name.replace(" ", "-"), model, training, **fields)


def trained(folder: Path) -> dict[int, float]:
    """Run our trainer; return its losses by step."""
    code = start(folder).wait()
    if code != EXIT_DONE:
        print((folder / "log.txt").read_text()[-3000:])
        sys.exit(f"{folder.name} ended with {code}")
    return losses(folder)


def main() -> int:
    """Train twice and compare; return 1 if a loss differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="a folder with a model")
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    figures = Figures(chosen.out / "exact.json")
    names = [f"{setting} {turn}" for setting in SETTINGS for turn in (1, 2)]
    folders = {name: made(name, chosen.model, SETTINGS[name[:-2]]) for name in names}
    with ThreadPoolExecutor(len(names)) as pool:
        found = dict(zip(names, pool.map(trained, folders.values()), strict=True))
    for setting in SETTINGS:
        one, other = found[f"{setting} 1"], found[f"{setting} 2"]
        gap = max(abs(one[step] - other[step]) for step in one)
        bound = 0 if setting.startswith("deterministic") else NEAR
        figures.add(setting, gap, kept=gap <= bound and len(one) == STEPS)
    return int(figures.broken > 0)


if __name__ == "__main__":
    sys.exit(main())
