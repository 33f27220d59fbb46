"""What a run ran with: versions, card and driver, the product's own state, hashes of its inputs.

Told by the first event, so that a figure can be traced to what made it. Reads files and package
data; torch is not imported yet. What cannot be found is left out.
"""

import hashlib
import json
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from app.devices.inventory import find_devices
from app.runs.spec import TrainerJob
from worker.trainer.canonical import templates_of

PACKAGES = (
    *("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "unsloth"),
    *("unsloth_zoo", "triton", "tokenizers", "safetensors", "numpy"),
)
_PRODUCT = "tunebox"
_WHOLE = 2 * 2**30  # bytes of weights up to which all of them are hashed; above, what names them
_PIECE = 2**20


def ran_with(job: TrainerJob) -> dict[str, Any]:
    """Return what this attempt runs with, as plain data: groups of names and values."""
    folder = Path(job.base_model_folder)
    found = {
        "versions": {"python": platform.python_version(), **_versions()},
        "product": _product(),
        "machine": {"system": platform.platform(), **(_card() if job.device == "cuda" else {})},
        "computing": {"deterministic": "yes" if job.run.config.training.deterministic else "no"},
        "hashes": {
            "model": _model_hash(folder),
            "tokenizer": _file_hash(folder / "tokenizer.json"),
            "template": _template_hash(folder),
            "dataset": job.content or _file_hash(Path(job.dataset_file)),
        },
    }
    return {name: {k: v for k, v in group.items() if v} for name, group in found.items()}


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _product() -> dict[str, str]:
    """Return the product's version and, in a checkout of it, the commit and whether it differs."""
    found: dict[str, str] = {}
    with suppress(metadata.PackageNotFoundError):
        found["version"] = metadata.version(_PRODUCT)
    here = Path(__file__).resolve().parents[2]
    if (here / ".git").exists():
        with suppress(OSError, subprocess.SubprocessError):
            found["commit"] = _git(here, "rev-parse", "HEAD")
            found["changed"] = "yes" if _git(here, "status", "--porcelain", "-uno") else ""
    return found


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _card() -> dict[str, str]:
    """Return the names of this machine's cards and their driver."""
    cards = [device for device in find_devices() if device.kind == "cuda"]
    if not cards:
        return {}
    return {"cards": ", ".join(card.name for card in cards), "driver": cards[0].driver or ""}


def _model_hash(folder: Path) -> str:
    """Return a hash of the model: all its weights, or of large ones sizes, headers and places."""
    files = sorted(folder.glob("*.safetensors"))
    is_whole = sum(path.stat().st_size for path in files) <= _WHOLE
    told = hashlib.sha256()
    for path in [folder / "config.json", *files]:
        if not path.is_file():
            continue
        told.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            if is_whole:
                hashlib.file_digest(file, lambda: told)
            else:
                told.update(file.read(_PIECE))
                file.seek(max(_PIECE, path.stat().st_size - _PIECE))
                told.update(file.read(_PIECE))
    return ("sha256:" if is_whole else "sha256 of headers and sizes:") + told.hexdigest()


def _file_hash(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _template_hash(folder: Path) -> str:
    """Return a hash of the chat templates, wherever the folder keeps them."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        if found := templates_of(folder):
            return (
                "sha256:" + hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
            )
    return ""
