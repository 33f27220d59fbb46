"""What this machine has and lacks for Tunebox, with a cure for each lack. Changes nothing."""

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from app.devices.inventory import find_devices
from app.embedded import postgres, valkey
from app.errors import AppError
from app.settings import Settings
from app.up import preflight

_SMALL_DISK = 20 * 2**30
_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at; ``cure`` is set where something is missing."""

    name: str
    text: str
    cure: str | None = None


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that a box needs."""
    return [
        Finding("Python", sys.version.split()[0]),
        _postgres(settings),
        _valkey(settings),
        _training(),
        _devices(),
        _disk(settings),
        _port(settings),
    ]


def _found(name: str, look: Callable[[], object]) -> Finding:
    """Return what ``look`` finds, or the cure that its error names."""
    try:
        return Finding(name, str(look()))
    except AppError as error:
        return Finding(name, "missing", error.detail)


def _postgres(settings: Settings) -> Finding:
    if settings.database_url:
        return Finding("Postgres", "your own, by DATABASE_URL")
    return _found("Postgres", postgres.binaries)


def _valkey(settings: Settings) -> Finding:
    if settings.redis_url:
        return Finding("Valkey", "your own, by REDIS_URL")
    return _found("Valkey", valkey.binary)


def _training() -> Finding:
    missing = [name for name in ("torch", "trl", "peft") if not importlib.util.find_spec(name)]
    if missing:
        cure = "run `make install`, or `pip install 'tunebox[cpu]'`"
        return Finding("training", f"{', '.join(missing)} missing", cure)
    unsloth = "with Unsloth" if importlib.util.find_spec("unsloth") else "without Unsloth"
    return Finding("training", f"torch {importlib.metadata.version('torch')}, {unsloth}")


def _devices() -> Finding:
    found = find_devices()
    text = "; ".join(f"{device.name} ({device.memory_bytes / _GIB:.0f} GiB)" for device in found)
    on_path = shutil.which("nvidia-smi")
    if on_path and found[0].kind == "cpu":
        cure = "nvidia-smi is there but NVML finds no card: check the driver, then `nvidia-smi`"
        return Finding("devices", text, cure)
    if found[0].kind == "cuda" and not importlib.util.find_spec("unsloth"):
        return Finding("devices", text, "run `pip install 'tunebox[gpu]'` to train on the card")
    return Finding("devices", text)


def _disk(settings: Settings) -> Finding:
    folder = settings.data_folder
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    cure = "models and checkpoints are large; choose a bigger disk with TUNEBOX_DATA"
    text = f"{free / _GIB:.0f} GiB free for {folder}"
    return Finding("disk", text, cure if free < _SMALL_DISK else None)


def _port(settings: Settings) -> Finding:
    def look() -> str:
        preflight.require_port(settings.host, settings.port)
        return f"{settings.host}:{settings.port} is free"

    return _found("port", look)
