"""How fast validation reads, beside `json.loads` of each line in the same run.

python -m tests.benchmarks.bench_validation [megabytes]
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from app.datasets.validation import validate

_WORDS = 5_000
_ROW_WORDS = (10, 150)


def write_rows(path: Path, size: int) -> int:
    """Write about ``size`` bytes of conversations of unlike words; return how many rows."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(_WORDS)]
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            turns = [
                {
                    "role": role,
                    "content": " ".join(chance.choices(words, k=chance.randint(*_ROW_WORDS))),
                }
                for role in ("user", "assistant")
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
            rows += 1
    return rows


def main(megabytes: int) -> None:
    """Print both speeds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        rows = write_rows(path, megabytes * 1_000_000)
        size = path.stat().st_size / 1e6
        start = time.perf_counter()
        with path.open("rb") as stream:
            for line in stream:
                json.loads(line)
        peer = time.perf_counter() - start
        with path.open("rb") as stream:
            report = validate(stream, emit=lambda problem: None)
        ours = time.perf_counter() - start - peer
    sys.stdout.write(
        f"{size:.0f} MB, {rows:,} rows, {report.errors} errors, {report.warnings} warnings\n"
        f"validate   {size / ours:7.1f} MB/s\njson.loads {size / peer:7.1f} MB/s\n"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
