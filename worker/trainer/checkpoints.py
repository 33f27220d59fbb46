"""Checkpoints: all that a run needs to go on as if nothing had happened. Safetensors and JSON only.

A folder ``checkpoints/step-N`` is written aside, synced and renamed: it is whole or not there. Data
position needs no file of its own: it follows from the step. Knows nothing of how a step is made.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from worker.trainer import weights
from worker.trainer.files import sync_folder, write_whole
from worker.trainer.loading import Loaded

FOLDER = "checkpoints"


@dataclass
class State:
    """Where a run stands, beside weights and optimizer."""

    fingerprint: str  # of what must not change between attempts
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float | None = None
    eval_loss: float | None = None
    evaluated: int = -1  # the step of the last validation
    best_loss: float | None = None
    best_step: int | None = None
    worse: int = 0  # validations since the best one

    def note_validation(self, loss: float) -> None:
        """Remember a validation, and whether it is the best."""
        self.eval_loss, self.evaluated = loss, self.step
        if self.step == 0:  # the base's own loss: nothing was trained that could be kept
            return
        if self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.best_step, self.worse = loss, self.step, 0
        else:
            self.worse += 1


def save(folder: Path, loaded: Loaded, optimizer: torch.optim.Optimizer, state: State) -> Path:
    """Write the checkpoint of ``state.step``; one that is there already is replaced."""
    final = folder / FOLDER / f"step-{state.step}"
    aside = final.with_name(f".{final.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_adapter(aside, loaded)
    tensors, plain = _optimizer_state(loaded, optimizer)
    save_file(tensors, aside / "optimizer.safetensors")
    save_file(_random_state(loaded.device), aside / "rng.safetensors")
    content = {**asdict(state), "optimizer": plain}
    write_whole(aside / "state.json", json.dumps(content).encode())
    sync_folder(aside)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    return final


def save_adapter(folder: Path, loaded: Loaded, *, base_model: str | None = None) -> None:
    """Write the trained weights as they are; of a named base model, as others load the result.

    The result of a full fine-tuning lies beside ``folder``: it is a model, not an adapter.
    """
    if base_model is None:
        weights.save(folder, loaded)
    else:
        weights.save_result(folder.parent, loaded, base_model=base_model)


def load_adapter(path: Path, loaded: Loaded) -> None:
    """Put a checkpoint's trained weights into the model."""
    weights.load(path, loaded)


def restore(path: Path, loaded: Loaded, optimizer: torch.optim.Optimizer) -> State:
    """Put a checkpoint's weights, optimizer and random states back; return where it stood."""
    content = read(path)
    load_adapter(path, loaded)
    names = loaded.trainable()
    for key, tensor in load_file(path / "optimizer.safetensors").items():
        name, part = key.rsplit("|", 1)
        # torch keeps its step counter on the CPU unless it is fused into the kernel
        on = names[name].device if tensor.ndim or optimizer.defaults.get("fused") else "cpu"
        optimizer.state[names[name]][part] = tensor.to(on)
    for key, value in content.pop("optimizer").items():
        name, part = key.rsplit("|", 1)
        optimizer.state[names[name]][part] = value
    states = load_file(path / "rng.safetensors")
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and loaded.device == "cuda":
        torch.cuda.set_rng_state(states["cuda"])
    return State(**content)


def read(path: Path) -> dict[str, Any]:
    """Return a checkpoint's state.json."""
    return json.loads((path / "state.json").read_text())


def latest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint."""
    found = _all(folder)
    return found[-1] if found else None


def prune(folder: Path, *, keep: int, best_step: int | None) -> None:
    """Remove all but the last ``keep`` checkpoints and the best one."""
    for path in _all(folder)[:-keep]:
        if path.name != f"step-{best_step}":
            shutil.rmtree(path, ignore_errors=True)


def clear(folder: Path) -> None:
    """Remove every checkpoint: the run begins again."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def _all(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("step-*"), key=lambda path: int(path.name[5:]))


def _optimizer_state(
    loaded: Loaded, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, float] = {}
    for name, parameter in loaded.trainable().items():
        parts: Mapping[str, Any] = optimizer.state.get(parameter, {})
        for part, value in parts.items():
            if isinstance(value, torch.Tensor):
                # 8-bit optimizers share one table among parameters; a file wants each its own
                tensors[f"{name}|{part}"] = value.detach().cpu().clone().contiguous()
            else:
                plain[f"{name}|{part}"] = value
    return tensors, plain


def _random_state(device: str) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    return states
