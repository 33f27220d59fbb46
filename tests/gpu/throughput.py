"""Our trainer beside Unsloth under TRL's, in the same settings; and stop, resume, out of memory.

    python -m tests.gpu.throughput OUT_DIR --size 1b [--resume] [--out-of-memory]

Both train equal batches. Speed is that of the median step, for shared machines are noisy. Writes
figures-SIZE.json into OUT_DIR and ends with 1 if a promise is broken: tokens per second at least
0.99 of the baseline's, peak memory no higher, and if asked: a stopped run goes on, its adapter
loads in plain PEFT, and too large a batch ends as ``out_of_memory``.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

from app.jobs.state import EXIT_CODES, EXIT_DONE, EXIT_STOPPED, FailureKind
from tests.gpu.baseline import ACCUMULATION, BATCH, MAX_LENGTH, ROWS, SEED, SKIPPED, STEPS, rows

SHARED = Path("/dev/shm")
WORK = (SHARED if SHARED.is_dir() else Path("/tmp")) / "tunebox-gpu"  # 16 GB are read four times
ENOUGH = 0.99
VARIANTS = ("packed", "unpacked")


class Figures:
    """Collects what was measured, and writes it after each piece."""

    def __init__(self, path: Path) -> None:
        self.path, self.broken = path, 0
        self.found: dict[str, Any] = {}

    def add(self, name: str, value: Any, *, kept: bool | None = None) -> None:
        self.found[name] = value if kept is None else {"value": value, "kept": kept}
        self.broken += kept is False
        self.path.write_text(json.dumps(self.found, indent=1))
        print(name, value, "" if kept is None else f"kept: {kept}", flush=True)


def job(name: str, model: Path, training: dict[str, Any], **config: Any) -> Path:
    """Write a job folder for our trainer."""
    longest = config.pop("longest", 900)
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fixed = {
        "learning_rate": 2e-4,
        "batch_size": BATCH,
        "gradient_accumulation": ACCUMULATION,
        "max_length": MAX_LENGTH,
        "assistant_only_loss": False,
        "scheduler": "linear",
        "warmup_ratio": 0,
        "seed": SEED,
    }
    content = {
        "run": {
            "name": name,
            "dataset": {"id": "ds_1", "version": 1},
            "base_model": "mdl_random",
            "preset": "balanced",
            "config": {
                "quantization": "nf4",
                "data": {"validation_fraction": 0},
                "evaluation": {"every_steps": 10_000},
                **config,
                "training": {**fixed, **training},
            },
        },
        "dataset_file": str(dataset(longest)),
        "base_model_folder": str(model),
        "device": "cuda",
    }
    (folder / "spec.json").write_text(json.dumps(content))
    return folder


def dataset(longest: int) -> Path:
    """Write the rows that both train, or shorter ones."""
    path = WORK / f"rows-{longest}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(ROWS, longest=longest)))
    return path


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start our trainer as the shepherd does."""
    with (folder / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "worker.trainer", "train", str(folder)]
        return subprocess.Popen(command, stdout=log, stderr=log)


def events(folder: Path) -> list[dict[str, Any]]:
    """Return the folder's events."""
    path = folder / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def losses(folder: Path) -> dict[int, float]:
    """Return the training loss by step."""
    told = [e for e in events(folder) if e["type"] == "metrics"]
    return {e["step"]: e["values"]["train/loss"] for e in told if "train/loss" in e["values"]}


def ours(name: str, model: Path, variant: str) -> dict[str, Any]:
    """Run our trainer from a spec.json; return its speed and peak memory."""
    folder = job(name, model, {"packing": variant == "packed", "max_steps": STEPS})
    code = start(folder).wait()
    if code != EXIT_DONE:
        print((folder / "log.txt").read_text()[-6000:])
        sys.exit(f"{name} ended with {code}")
    steps = [e for e in events(folder) if e["type"] == "metrics" and "train/tokens" in e["values"]]
    measured = steps[SKIPPED - 1 :]
    seconds = [moment(after) - moment(before) for before, after in itertools.pairwise(measured)]
    tokens = measured[-1]["values"]["train/tokens"] - measured[0]["values"]["train/tokens"]
    summary = json.loads((folder / "report.json").read_text())["summary"]
    return {
        "tokens_per_second": tokens / len(seconds) / median(seconds),
        "tokens_per_step": tokens / len(seconds),
        "step_seconds": [round(one, 3) for one in seconds],
        "largest_batch_tokens": largest_batch(model, packing=variant == "packed"),
        "peak_gib": summary["peak_memory_bytes"] / 2**30,
        "losses": [step["values"]["train/loss"] for step in steps[:3]],
        "first_step_ended_after_s": moment(steps[0]) - moment(events(folder)[0]),
    }


def largest_batch(model: Path, *, packing: bool) -> int:
    """Return the tokens, padding included, of the largest batch that our trainer built."""
    from transformers import AutoTokenizer

    from worker.trainer.data import encode, read_examples
    from worker.trainer.plan import alone, pack, rows_of_step

    tokenizer = AutoTokenizer.from_pretrained(model)
    read = read_examples(dataset(900))
    encoded = [encode(tokenizer, example, assistant_only=False) for example in read]
    rows = pack(encoded, max_length=MAX_LENGTH) if packing else alone(encoded)
    sizes = [sum(len(one.ids) for one in row) for row in rows]
    largest, in_step = 0, BATCH * ACCUMULATION
    for step in range(STEPS):
        order = rows_of_step(step, rows=len(rows), rows_in_step=in_step, seed=SEED)
        for at in range(0, len(order), BATCH):
            batch = [sizes[row] for row in order[at : at + BATCH]]
            largest = max(largest, sum(batch) if packing else max(batch) * len(batch))
    return largest


def moment(event: dict[str, Any]) -> float:
    """Return an event's time in seconds."""
    return datetime.fromisoformat(event["at"]).timestamp()


def baseline(model: Path, variant: str) -> dict[str, Any]:
    """Run Unsloth under TRL; return its figures."""
    command = [sys.executable, "-m", "tests.gpu.baseline", "run", str(model), variant]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in out.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        sys.exit(f"the baseline failed: {out.stdout[-1500:]} {out.stderr[-3000:]}")
    return json.loads(found[0].removeprefix("RESULT "))


def speed(
    figures: Figures, size: str, model: Path, variants: Sequence[str], *, rounds: int
) -> None:
    """Measure both trainers one right after the other, the other one first in the next round."""
    for variant in variants:
        found: dict[str, list[dict[str, Any]]] = {"ours": [], "baseline": []}
        for number in range(rounds):
            for who in sorted(found, reverse=number % 2 == 0):
                name = f"{size}-{variant}"
                measured = ours(name, model, variant) if who == "ours" else baseline(model, variant)
                found[who].append(measured)
        mine, theirs = found["ours"], found["baseline"]
        figures.add(f"{size} {variant} ours", mine)
        figures.add(f"{size} {variant} baseline", theirs)
        share = mean(mine, "tokens_per_second") / mean(theirs, "tokens_per_second")
        figures.add(f"{size} {variant} speed", share, kept=share >= ENOUGH)
        memory = max(one["peak_gib"] for one in mine) / min(one["peak_gib"] for one in theirs)
        figures.add(f"{size} {variant} memory", memory, kept=memory <= 1.0)


def mean(rounds: Sequence[dict[str, Any]], figure: str) -> float:
    """Return a figure's mean over rounds."""
    return fmean(one[figure] for one in rounds)


def stop_and_resume(figures: Figures, model: Path) -> Path:
    """Pause a bf16 run by SIGTERM, resume it to its end with its evaluation."""
    data = {"validation_fraction": 0.01}
    folder = job(
        "resumed",
        model,
        {"packing": True, "max_steps": 14, "assistant_only_loss": True},
        quantization="none",
        data=data,
        longest=40,
    )
    process = start(folder)
    while process.poll() is None and max(losses(folder), default=0) < 4:
        time.sleep(0.05)
    (folder / "stop.json").write_text('{"mode": "pause"}')
    os.kill(process.pid, signal.SIGTERM)
    asked = time.time()
    code = process.wait()
    figures.add("stop", {"code": code, "seconds": time.time() - asked}, kept=code == EXIT_STOPPED)
    (folder / "stop.json").unlink()
    code = start(folder).wait()
    if code != EXIT_DONE:
        print((folder / "log.txt").read_text()[-5000:])
    resumed = [e["step"] for e in events(folder) if e["values"].get("phase") == "resumed"]
    whole = sorted(losses(folder)) == list(range(1, 15))
    kept = code == EXIT_DONE and whole and bool(resumed and resumed[0] >= 4)
    figures.add("resume", {"code": code, "at": resumed, "losses": losses(folder)}, kept=kept)
    report = json.loads((folder / "report.json").read_text()) if code == EXIT_DONE else {}
    figures.add("report", report)
    return folder


def plain_peft(figures: Figures, folder: Path, model: Path) -> None:
    """Load the adapter without Unsloth and compare an example's loss with the report's."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from worker.trainer.data import encode, read_examples
    from worker.trainer.packing import padded, to_device

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, device_map={"": 0})
    tuned = PeftModel.from_pretrained(base, folder / "adapter").eval()
    written = load_file(folder / "adapter" / "adapter_model.safetensors")
    loaded = sum(name.count(".lora_") for name, _ in tuned.named_parameters())
    tokenizer = AutoTokenizer.from_pretrained(model)
    spec = json.loads((folder / "spec.json").read_text())
    examples = {e.line: e for e in read_examples(Path(spec["dataset_file"]))}
    gaps: list[float] = []
    for line in (folder / "items.jsonl").read_text().splitlines():
        item = json.loads(line)
        encoded = encode(tokenizer, examples[item["line"]], assistant_only=True)
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            loss = tuned(**to_device(padded([[encoded]], pad=0), "cuda")).loss.item()
        gaps.append(abs(loss - item["tuned_scores"]["loss"]))
    found = {"weights": len(written), "loaded": loaded, "largest_loss_gap": max(gaps, default=9)}
    kept = loaded == len(written) and found["largest_loss_gap"] < 0.05
    figures.add("adapter in plain PEFT", found, kept=kept)


def out_of_memory(figures: Figures, model: Path) -> None:
    """Ask for far too much; the run must say so, and what to change."""
    training = {"batch_size": 1024, "gradient_accumulation": 1, "gradient_checkpointing": False}
    folder = job("too-large", model, {**training, "packing": False, "max_steps": 2})
    code = start(folder).wait()
    last = events(folder)[-1]["values"]
    kept = code == EXIT_CODES[FailureKind.OUT_OF_MEMORY] and last.get("kind") == "out_of_memory"
    figures.add(
        "out of memory", {"code": code, **{k: str(v)[:300] for k, v in last.items()}}, kept=kept
    )


def main() -> int:
    """Measure one size; return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="1b", choices=["tiny", "1b", "8b"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--rounds", type=int, default=2, help="how often each trainer runs")
    parser.add_argument("--resume", action="store_true", help="stop, resume, load in plain PEFT")
    parser.add_argument("--out-of-memory", action="store_true")
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    figures = Figures(chosen.out / f"figures-{chosen.size}.json")
    model, began = WORK / f"model-{chosen.size}", time.time()
    if not model.is_dir():
        command = [sys.executable, "-m", "tests.gpu.baseline", "make", str(model), chosen.size]
        subprocess.run(command, check=True)
    figures.add("made model in s", time.time() - began)
    speed(figures, chosen.size, model, chosen.variants, rounds=chosen.rounds)
    if chosen.resume:
        plain_peft(figures, stop_and_resume(figures, model), model)
    if chosen.out_of_memory:
        out_of_memory(figures, model)
    figures.add("seconds", time.time() - began)
    return int(figures.broken > 0)


if __name__ == "__main__":
    sys.exit(main())
