"""Runs on a card killed at random moments: each goes on, and ends with the undisturbed loss.

    python -m tests.gpu.kills OUT_DIR --model FOLDER [--kills 50] [--at-once 10]
                              [--engines peft unsloth]

Each run is killed with SIGKILL once, anywhere from its start to its end, and started again; with
several engines by turns. Writes kills.json into OUT_DIR and ends with 1 if a final loss differs by
more than 1e-3, if a killed process still holds memory of the card, or if the card holds more at
the end than before.
"""

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from app.jobs.state import EXIT_DONE
from tests.gpu.throughput import WORK, Figures, events, job, losses, start

ENGINES = ("auto", "unsloth", "peft")
STEPS, NEAR = 120, 1e-3
TRAINING = {"max_steps": STEPS, "packing": True}
SLACK = 64 * 2**20  # bytes that the driver may keep


def folder_of(name: str, model: Path, engine: str) -> Path:
    """Write a job folder; return it."""
    return job(name, model, dict(TRAINING), checkpoints={"every_steps": 10}, engine=engine)


def held() -> int:
    """Return the bytes of the card that are in use."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.check_output(asked, text=True).splitlines()[0]) * 2**20


def holders() -> set[int]:
    """Return the processes that hold memory of the card."""
    asked = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]
    return {int(line) for line in subprocess.check_output(asked, text=True).split() if line}


def phase_of(folder: Path) -> str:
    """Return what a run was at when it was killed."""
    told = [event["values"]["phase"] for event in events(folder) if event["type"] == "phase"]
    return told[-1] if told else "starting"


def killed(place: int, folder: Path, whole: float, seconds: float) -> dict[str, Any]:
    """Kill a run at a random moment and let it go on; return how it ended."""
    after = random.Random(place).uniform(0.02, 0.98) * seconds
    process = start(folder)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    phase, step = phase_of(folder), max(losses(folder), default=0)
    time.sleep(1)
    holds = process.pid in holders()
    code = start(folder).wait()
    if code != EXIT_DONE:
        print((folder / "log.txt").read_text()[-2000:])
    return {
        "after_s": after,
        "phase": phase,
        "step": step,
        "code": code,
        "gap": abs(losses(folder).get(STEPS, float("inf")) - whole),
        "holds": holds,
    }


def undisturbed(folder: Path) -> tuple[int, float, float]:
    """Run to the end; return the exit code, the final loss and the seconds."""
    began = time.monotonic()
    code = start(folder).wait()
    return code, losses(folder).get(STEPS, float("nan")), time.monotonic() - began


def main() -> int:
    """Kill and compare; return 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="a folder with a model")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--engines", nargs="+", default=["auto"], choices=ENGINES)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="of the kills' random moments")
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    figures, before = Figures(chosen.out / "kills.json"), held()
    # As many as run at once later, so that a moment of theirs is one of these.
    turns = list(islice(cycle(chosen.engines), chosen.at_once))
    with ThreadPoolExecutor(chosen.at_once) as pool:
        folders = [
            folder_of(f"whole-{place}", chosen.model, one) for place, one in enumerate(turns)
        ]
        found = list(pool.map(undisturbed, folders))
        wholes = {
            engine: [one for one, of in zip(found, turns, strict=True) if of == engine]
            for engine in chosen.engines
        }
        figures.add("undisturbed: code, loss, seconds", wholes)
        if any(code != EXIT_DONE for code, _, _ in found):
            print((folders[0] / "log.txt").read_text()[-3000:])
            sys.exit("an undisturbed run failed")
        begun = {}
        for place in range(chosen.first, chosen.first + chosen.kills):
            engine = chosen.engines[place % len(chosen.engines)]
            _, loss, seconds = wholes[engine][0]
            folder = folder_of(f"kill-{place}", chosen.model, engine)
            begun[pool.submit(killed, place, folder, loss, seconds)] = engine
        kills: dict[str, list[dict[str, Any]]] = {engine: [] for engine in chosen.engines}
        for ended in as_completed(begun):
            kills[begun[ended]].append(ended.result())
            figures.add("kills", kills)
    for engine, ends in kills.items():
        judge(figures, engine, ends, [loss for _, loss, _ in wholes[engine]])
    time.sleep(2)
    left = held() - before
    figures.add("bytes left on the card", left, kept=left <= SLACK)
    return int(figures.broken > 0)


def judge(figures: Figures, engine: str, kills: list[dict[str, Any]], whole: list[float]) -> None:
    """Tell what came of an engine's kills beside its undisturbed runs' final losses."""
    apart = max(whole) - min(whole)
    figures.add(f"{engine} undisturbed differ by", apart, kept=apart <= NEAR)
    figures.add(f"{engine} killed in", dict(Counter(one["phase"] for one in kills)))
    gap = max(one["gap"] for one in kills)
    figures.add(f"{engine} largest gap of a final loss", gap, kept=gap <= NEAR)
    ended = all(one["code"] == EXIT_DONE for one in kills)
    figures.add(f"{engine} all went on to their end", ended, kept=ended)
    held_on = sum(one["holds"] for one in kills)
    figures.add(f"{engine} killed processes that hold memory", held_on, kept=held_on == 0)


if __name__ == "__main__":
    sys.exit(main())
