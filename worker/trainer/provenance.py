"""What a run ran with: versions, card and driver, the product's own state, hashes of its inputs.

Told by the first event, so that a figure can be traced to what made it. Reads files and package
data; imports no library of the training stack. What cannot be found is left out.
"""

import hashlib
import importlib
import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from app.runs.spec import TrainerJob

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
    """Return the names of the cards of this machine and their driver, as NVML tells."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # no wheel, no driver: then nothing is known
        return {}
    try:
        count = nvml.nvmlDeviceGetCount()
        names = [nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(at)) for at in range(count)]
        return {
            "cards": ", ".join(map(_text, names)),
            "driver": _text(nvml.nvmlSystemGetDriverVersion()),
        }
    except Exception:  # a card that does not answer is told of when it is used
        return {}
    finally:
        nvml.nvmlShutdown()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _model_hash(folder: Path) -> str:
    """Return a hash of the model: all its weights, or of large ones sizes, headers and places."""
    files = sorted(folder.glob("*.safetensors"))
    total = sum(path.stat().st_size for path in files)
    told = hashlib.sha256()
    for path in [folder / "config.json", *files]:
        if not path.is_file():
            continue
        told.update(f"{path.name} {path.stat().st_size}".encode())
        for piece in _pieces(path) if total <= _WHOLE else _ends(path):
            told.update(piece)
    return ("sha256:" if total <= _WHOLE else "sha256 of headers and sizes:") + told.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _ends(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield file.read(_PIECE)
        file.seek(max(_PIECE, path.stat().st_size - _PIECE))
        yield file.read(_PIECE)


def _file_hash(path: Path) -> str:
    if not path.is_file():
        return ""
    told = hashlib.sha256()
    for piece in _pieces(path):
        told.update(piece)
    return "sha256:" + told.hexdigest()


def _template_hash(folder: Path) -> str:
    """Return a hash of the chat template, wherever the folder keeps it."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return _file_hash(own)
    with suppress(OSError, ValueError, AttributeError):
        template = json.loads((folder / "tokenizer_config.json").read_text()).get("chat_template")
        if template:
            text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
            return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return ""
