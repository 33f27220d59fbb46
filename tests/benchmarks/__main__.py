"""Run every benchmark of this folder, or those named: ``python -m tests.benchmarks [name …]``.

What begins with two dashes, and all behind it, goes to the one that is named: ``fuzz --count 100``.
Each ``bench_<name>.py`` prints its figures beside its peer's, measured in the same run. Figures
are for reading; no test asserts a time.
"""

import importlib
import sys
from pathlib import Path


def main(words: list[str]) -> None:
    """Run the benchmarks whose names are given, or all."""
    at = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    wanted, options = words[:at], words[at:]
    names = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))
    for name in names:
        if wanted and name.removeprefix("bench_") not in wanted:
            continue
        print(f"\n== {name.removeprefix('bench_')}", flush=True)
        run = importlib.import_module(f"tests.benchmarks.{name}").main
        run(options) if options else run()


if __name__ == "__main__":
    main(sys.argv[1:])
