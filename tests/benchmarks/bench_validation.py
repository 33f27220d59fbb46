"""How fast the first stage reads, beside `datasets.load_dataset("json")` on the same file.

python -m tests.benchmarks validation [--megabytes 300] [--memory-only]

Each way runs in a process of its own: wall time, its processor time, and the most memory it held.
``--memory-only`` runs `tunebox validate` once, with no peer, on files too large to read in turns:
``--megabytes 10000`` and its tenth, whose memory must be the same.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.chat import write_rows

_ROUNDS = 5
_PEER = """
import datasets, sys
datasets.disable_progress_bars()
datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2])
"""
_OURS = """
import sys
from app.datasets.check.validation import validate
with open(sys.argv[1], "rb") as stream:
    report = validate(stream, emit=lambda _: None, processes=int(sys.argv[2]))
assert report.examples and not report.errors, report
"""
# Memory that processes share is counted once: each holds its share of it (PSS).
_COMMAND = """
import pathlib, subprocess, sys, threading
def held(process):
    with pathlib.Path(f"/proc/{process}/smaps_rollup").open() as lines:
        found = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    tasks = pathlib.Path(f"/proc/{process}/task").glob("*/children")
    children = [child for task in tasks for child in task.read_text().split()]
    return found[0] * 1024 + sum(map(held, children))
child = subprocess.Popen(
    [sys.executable, "-m", "app.cli", "validate", sys.argv[1]], stdout=subprocess.DEVNULL
)
ended, together = threading.Event(), 0
while child.poll() is None:
    try:
        together = max(together, held(child.pid))
    except (OSError, IndexError):
        pass  # it ended meanwhile
    ended.wait(0.25)
assert child.returncode == 0, child.returncode
more["together"] = together
"""
# What a way costs by itself, without the start of Python and its imports.
_TIMED = """
import json, os, resource, sys, time
{imports}
more = {{}}
start, spent = time.perf_counter(), time.process_time()
{code}
own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({{
    "wall": time.perf_counter() - start,
    "cpu": time.process_time() - spent,
    "memory": max(own.ru_maxrss, others.ru_maxrss) * 1024,
    **more,
}}))
"""


def _run(code: str, *arguments: str) -> dict[str, Any]:
    return _runs(code, arguments)[0]


def _runs(code: str, *each: Sequence[str]) -> list[dict[str, Any]]:
    """Run a way once for each set of arguments, all at the same time."""
    lines = code.strip().splitlines()
    imports = "\n".join(line for line in lines if line.startswith(("import ", "from ")))
    rest = "\n".join(line for line in lines if not line.startswith(("import ", "from ")))
    program = _TIMED.format(imports=imports, code=rest)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
        )
        for arguments in each
    ]
    told = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started), told
    return [json.loads(text.splitlines()[-1]) for text in told]


def _best(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    best = min(rounds, key=_wall)
    return best | {"cpu": min(one["cpu"] for one in rounds)}


def _wall(figures: dict[str, Any]) -> float:
    return figures["wall"]


def main(options: Sequence[str] = ()) -> None:
    """Print the table, or what is held."""
    parser = argparse.ArgumentParser(prog="validation")
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--memory-only", action="store_true")
    asked = parser.parse_args(list(options))
    if asked.memory_only:
        for megabytes in (asked.megabytes // 10, asked.megabytes):
            _memory(megabytes)
    else:
        _speed(asked.megabytes)


def _memory(megabytes: int) -> None:
    """Print what `tunebox validate` holds of a file of this size."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.jsonl"
        rows = write_rows(path, megabytes * 1_000_000)
        size = path.stat().st_size / 1e6
        found = _run(_COMMAND, str(path))
    print(
        f"{size:,.0f} MB, {rows:,} rows: {size / found['wall']:,.0f} MB/s by the clock; at most "
        f"{found['memory'] / 2**20:,.0f} MiB held by a process, {found['together'] / 2**20:,.0f} "
        "by all together (bar: 300)"
    )


def _speed(megabytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "rows.jsonl"
        rows = write_rows(path, megabytes * 1_000_000)
        size = path.stat().st_size / 1e6
        print(
            f"{size:.0f} MB, {rows:,} rows of {1e6 * size / rows:,.0f} bytes; "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        # By turns: what else the machine does slows all of them alike.
        rounds = [
            (
                _run(_PEER, str(path), str(folder / f"cache-{number}")),
                _run(_OURS, str(path), "1"),
                _run(_OURS, str(path), "2"),
                max(_runs(_OURS, [str(path), "1"], [str(path), "1"]), key=_wall),
            )
            for number in range(_ROUNDS)
        ]
    peer, one, two, beside = map(_best, zip(*rounds, strict=True))
    _print("load_dataset, reading only", size, peer)
    _print("first stage, one core", size, one)
    _print("first stage, two processes", size, two)
    by_processor = peer["cpu"] / one["cpu"]
    print(
        f"one core is {peer['wall'] / one['wall']:.1f} × the peer by the clock, "
        f"{by_processor:.1f} × by processor time (bar: 2); "
        f"two processes are {one['wall'] / two['wall']:.2f} × one (bar: 1.7; two that share "
        f"nothing but the machine {2 * one['wall'] / beside['wall']:.2f} ×)"
    )


def _print(name: str, size: float, figures: dict[str, Any]) -> None:
    print(
        f"{name:<28} {size / figures['wall']:6.0f} MB/s by the clock, "
        f"{size / figures['cpu']:6.0f} by its own processor time, "
        f"{figures['memory'] / 2**20:5.0f} MiB"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
