"""What devices this machine has and what they do at the moment: NVML's GPUs, else the CPU.

Knows neither database nor jobs. Reads only; a card that does not tell a value leaves it out.
"""

import importlib
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

_SHEPHERD = "worker.shepherd"  # an argument of the process above each of our trainers


@dataclass(frozen=True)
class Found:
    """A device of this machine. ``reading`` holds the sample of this moment."""

    kind: str
    index: int
    name: str
    memory_bytes: int
    driver: str | None = None
    compute_capability: str | None = None
    reading: dict[str, Any] = field(default_factory=dict[str, Any])


def find_devices() -> list[Found]:
    """Return the GPUs of this machine, or its CPU as the one device if it has none."""
    return _find_gpus() or [_cpu()]


def _cpu() -> Found:
    memory = psutil.virtual_memory()
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return Found(
        kind="cpu",
        index=0,
        name=f"{_cpu_name()}, {cores} cores",
        memory_bytes=memory.total,
        reading={
            "memory_used": memory.total - memory.available,
            "utilization": psutil.cpu_percent(),
            "cores": cores,
        },
    )


def _cpu_name() -> str:
    """Return the processor's name; ``platform.processor`` is empty on most Linux machines."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "CPU"


def _find_gpus() -> list[Found]:
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # noqa: BLE001  # no wheel, no driver, no card: all mean that there is no GPU
        return []
    try:
        return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Found:  # pynvml has no types
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    capability = _asked(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    return Found(
        kind="cuda",
        index=index,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=_text(_asked(nvml.nvmlSystemGetDriverVersion) or "") or None,
        compute_capability=".".join(map(str, capability)) if capability else None,
        reading=_reading(nvml, handle),
    )


def _reading(nvml: Any, handle: Any) -> dict[str, Any]:
    values = {
        "memory_used": _asked(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).used)),
        "utilization": _asked(lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        "temperature": _asked(lambda: int(nvml.nvmlDeviceGetTemperature(handle, 0))),
        "power": _asked(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        "foreign": _asked(lambda: _foreign(nvml, handle)),
    }
    return {name: value for name, value in values.items() if value is not None}


def _foreign(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    """Return the processes on a card that no shepherd of ours watches over."""
    running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return [
        {"pid": int(one.pid), "name": _process_name(one.pid), "memory": int(one.usedGpuMemory or 0)}
        for one in running
        if not _is_ours(one.pid)
    ]


def _is_ours(pid: int) -> bool:
    try:
        parents = psutil.Process(pid).parents()
        return any(_SHEPHERD in parent.cmdline() for parent in parents)
    except psutil.Error:
        return False


def _process_name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "unknown"


def _asked(question: Callable[[], Any]) -> Any:
    """Return the answer, or None where the card or driver does not tell."""
    try:
        return question()
    except Exception:  # noqa: BLE001  # NVML raises a class per reason; none is a reason to fail
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
