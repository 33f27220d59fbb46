"""Hostile files through what `tunebox validate` does: no crash, no time-out, no memory beyond.

python -m tests.benchmarks fuzz [--count N] [--first NUMBER] [--processes N]

Each process checks one file after the other; it is ended, and the file named, when one takes too
long or the process too much memory. One file in four gets the second stage too, and of every file
with good rows the cleaned one is checked again: it must have no error.
"""

import argparse
import io
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.datasets import intake, terminal
from app.datasets.table import TableReader
from tests.benchmarks.hostile import hostile

_SECONDS = 20  # that one file may take; of processor time
_MEMORY = 1536 * 2**20  # bytes of address space beside what Python and its libraries take
_RESIDENT = 400 * 2**20  # bytes that a process may hold at most
_TOLD = 200  # bytes of what a process said last


def main(options: Sequence[str] = ()) -> None:
    """Check the files; print what failed, and how long it took."""
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args(list(options))
    start = time.perf_counter()
    parts = [(asked.first + at, asked.processes) for at in range(asked.processes)]
    with ThreadPoolExecutor(asked.processes) as threads:
        end = asked.first + asked.count
        results = list(threads.map(lambda part: _share(part[0], part[1], end), parts))
    failed = [failure for failures, _ in results for failure in failures]
    spent = time.perf_counter() - start
    for failure in failed:
        print(failure)
    most = max(memory for _, memory in results) / 2**20
    print(
        f"{asked.count:,} files in {spent:,.0f} s ({asked.count / spent:,.0f}/s), "
        f"{len(failed)} failed; at most {most:,.0f} MiB held (bar: 0 failed, 400 MiB)"
    )


def _share(first: int, step: int, end: int) -> tuple[list[str], int]:
    """Check every ``step``-th file in children; return what failed, and the most memory held."""
    failed: list[str] = []
    memory = 0
    while first < end:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.bench_fuzz",
            *map(str, (first, step, end)),
        ]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        words = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
        memory = max([memory, *(word["memory"] for word in words)])
        failed += [word["failed"] for word in words if "failed" in word]
        if child.returncode == 0:
            break
        last = max((word["begun"] for word in words), default=first)
        failed.append(
            f"file {last}: the process ended with {child.returncode}; {child.stderr[-_TOLD:]}"
        )
        first = last + step
    return failed, memory


def _work(first: int, step: int, end: int) -> None:
    """Check files in this process, and say which has begun, what failed and the memory held."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _MEMORY, taken + _MEMORY))
    with tempfile.TemporaryDirectory(prefix="tunebox-fuzz-") as name:
        path = Path(name) / "file"
        for number in range(first, end, step):
            signal.setitimer(signal.ITIMER_PROF, _SECONDS)  # ends the process when it is up
            word: dict[str, object] = {"begun": number}
            try:
                path.write_bytes(hostile(number))
                _check(path, deep=number % 4 == 0)
            except Exception:  # noqa: BLE001  # whatever it was, it is what we look for
                word["failed"] = f"file {number}: {traceback.format_exc()[-1500:]}"
            held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps(word | {"memory": held}), flush=True)
            if held > _RESIDENT:
                sys.exit(f"{held / 2**20:,.0f} MiB are held")


def _check(path: Path, *, deep: bool) -> None:
    with terminal.checked(path, deep=deep) as found:
        report, problems = found.report, found.problems
        assert report.problems == report.errors + report.warnings
        assert all(one.line >= 1 for one in problems), problems
        assert report.status == ("invalid" if report.errors else "ready")
        terminal.as_text(path, report, problems)
        terminal.json_text(report, problems).encode("utf-8", "replace")
        if found.rows is None or not report.examples or report.format is None:
            return
        with found.table.open("rb") as stream:
            bad = [not row.is_good for row in TableReader(stream).rows(0, len(TableReader(stream)))]
    with path.open("rb") as stream:
        identified = intake.identify(stream)
        content = b"".join(intake.cleaned(stream, identified, lambda place: bad[place]))
    again, problems = terminal.check_stream(io.BytesIO(content), declared=report.format)
    assert (again.errors, again.examples) == (0, report.examples), (problems[:3], again, report)


if __name__ == "__main__":
    _work(*map(int, sys.argv[1:]))
