"""What a try before the run predicts, beside the run itself: its peak of memory, and its time.

    python -m tests.gpu.preflight OUT_DIR --size 1b [--size 8b]

Runs follow their tries one by one, on a card of their own. Writes preflight.json into OUT_DIR and
ends with 1 if a peak or a time is off by more than 5 %.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.jobs.state import EXIT_STOPPED
from tests.gpu.throughput import WORK, Figures, events, job, moment, start

STEPS, BOUND = 60, 0.05
SETTINGS: Mapping[str, dict[str, Any]] = {
    "qlora packed": {"packing": True},
    "qlora unpacked": {"packing": False, "batch_size": 4},
    "lora packed": {"packing": True, "quantization": "none"},
    "qlora peft packed": {"packing": True, "engine": "peft"},
}


def train(folder: Path) -> int:
    """Run to the end of the training, and save without answering what is held out."""
    (folder / "stop.json").write_text('{"mode": "save"}')
    process = start(folder)
    while process.poll() is None and not phases(folder, "evaluating"):
        time.sleep(0.2)
    process.terminate()
    return process.wait()


def phases(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the events that tell of a phase."""
    return [one for one in events(folder) if one["values"].get("phase") == name]


def measured(name: str, model: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Try and run; return what was predicted and what came of it."""
    fields = dict(settings)
    training = {"max_steps": STEPS, "packing": fields.pop("packing")}
    if "batch_size" in fields:
        training["batch_size"] = fields.pop("batch_size")
    held_out = {"data": {"validation_fraction": 0.1}, "evaluation": {"every_steps": 20}}
    folder = job(name, model, training, fit="check", **held_out, **fields)
    code = train(folder)
    if code != EXIT_STOPPED:
        print((folder / "log.txt").read_text()[-4000:])
        sys.exit(f"{name} ended with {code}")
    predicted = json.loads((folder / "preflight.json").read_text())["trials"][0]["measured"]
    report = json.loads((folder / "report.json").read_text())
    told = events(folder)
    steps = [one for one in told if "train/loss" in one["values"]]
    tried, evaluating = phases(folder, "tried")[0], phases(folder, "evaluating")[0]
    return {
        "predicted": predicted,
        "peak": {
            "predicted": predicted["used_bytes"],
            "measured": report["summary"]["peak_memory_bytes"],
        },
        "seconds": {
            "predicted": predicted["seconds"],
            "measured": moment(evaluating) - moment(tried),
        },
        "phases_s": {
            str(one["values"]["phase"]) + str(one["values"].get("within", "")): moment(one)
            - moment(tried)
            for one in told
            if one["type"] == "phase" and moment(one) > moment(tried)
        },
        "steps_s": [round(moment(one) - moment(tried), 2) for one in steps],
    }


def main() -> int:
    """Compare; return 1 if a prediction is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", action="append", choices=["tiny", "1b", "8b"])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    figures = Figures(chosen.out / "preflight.json")
    for size in chosen.size or ["1b"]:
        model = WORK / f"model-{size}"
        if not model.is_dir():
            command = [sys.executable, "-m", "tests.gpu.baseline", "make", str(model), size]
            subprocess.run(command, check=True)
        for name in chosen.settings:
            found = measured(f"tried-{size}-{name.replace(' ', '-')}", model, SETTINGS[name])
            for what in ("peak", "seconds"):
                off = found[what]["predicted"] / found[what]["measured"] - 1
                figures.add(f"{size} {name} {what} off by", off, kept=abs(off) <= BOUND)
            figures.add(f"{size} {name}", found)
    return int(figures.broken > 0)


if __name__ == "__main__":
    sys.exit(main())
