"""What a process loads: the server and the command line know no training stack."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate"}


@pytest.mark.parametrize("module", ["app.main", "app.cli", "worker.main"])
def test_a_process_that_trains_nothing_loads_no_training_stack(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({{n.partition('.')[0] for n in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert HEAVY.isdisjoint(loaded.stdout.split())
