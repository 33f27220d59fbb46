"""Checkpoints: all that a run needs to go on as if nothing had happened. Safetensors and JSON only.

A folder ``checkpoints/step-N`` is written aside, synced and renamed: it is whole or not there, and
what takes another's place leaves one of both at every moment. Data position needs no file of its
own: it follows from the step. Knows nothing of how a step is made.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from app.jobs.state import FailureKind
from worker.trainer import weights
from worker.trainer.failures import TrainerError
from worker.trainer.files import sync_folder, write_whole
from worker.trainer.loading import Loaded

FOLDER = "checkpoints"
_STATE = "state.json"  # written last: with it a folder is whole
_ROOM = 16 * 2**20  # bytes beside the tensors, for headers, events and the log


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
    batch_size: int | None = None  # of a batch, where memory did not do for the spec's
    settings: dict[str, Any] | None = None  # with which the last step was made
    watched: dict[str, Any] | None = None  # what the watcher has seen
    given_up: bool = False  # by the watch: validation only gets worse
    rate_factor: float = 1.0  # on the learning rate; less after it went back

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
    aside, replaced = _aside(final), _replaced(final)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors, plain = _optimizer_state(loaded, optimizer)
    require_room(aside, [*loaded.trainable().values(), *tensors.values()])
    save_adapter(aside, loaded)
    save_file(tensors, aside / "optimizer.safetensors")
    save_file(_random_state(loaded.device), aside / "rng.safetensors")
    sync_folder(aside)
    content = {**asdict(state), "optimizer": plain}
    write_whole(aside / _STATE, json.dumps(content).encode())
    if final.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        final.rename(replaced)
    aside.rename(final)
    sync_folder(final.parent, deep=False)
    shutil.rmtree(replaced, ignore_errors=True)
    return final


def require_room(folder: Path, tensors: Iterable[torch.Tensor]) -> None:
    """Raise ``disk_full`` where tensors do not fit: better known now than in the middle of them."""
    needed = sum(one.numel() * one.element_size() for one in tensors) + _ROOM
    free = shutil.disk_usage(folder).free
    if free < needed:
        text = f"a checkpoint takes {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free"
        raise TrainerError(FailureKind.DISK_FULL, text)


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}")


def _replaced(final: Path) -> Path:
    return final.with_name(f".replaced-{final.name}")


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
    return json.loads((path / _STATE).read_text())


def latest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint."""
    _recover(folder)
    found = _all(folder)
    return found[-1] if found else None


def best(folder: Path) -> Path | None:
    """Return the checkpoint whose own validation loss is lowest."""
    losses = {path: _own_loss(read(path)) for path in _all(folder)}
    measured = {path: loss for path, loss in losses.items() if loss is not None}
    return min(measured, key=measured.__getitem__) if measured else None


def _own_loss(content: Mapping[str, Any]) -> float | None:
    return content["eval_loss"] if content["evaluated"] == content["step"] else None


def prune(folder: Path, *, keep: int) -> None:
    """Remove all but the last ``keep`` checkpoints and the best one."""
    found, spared = _all(folder), best(folder)
    for path in found[:-keep]:
        if path != spared:
            shutil.rmtree(path, ignore_errors=True)


def _recover(folder: Path) -> None:
    """Finish what a killed process left between writing a checkpoint and giving it its name."""
    for name in (".step-*", ".replaced-step-*"):  # the newer one first
        for path in (folder / FOLDER).glob(name):
            final = path.with_name(path.name[path.name.index("step-") :])
            if (path / _STATE).is_file() and not final.exists():
                path.rename(final)
            else:
                shutil.rmtree(path, ignore_errors=True)


def before(folder: Path, step: int) -> Path | None:
    """Return the newest checkpoint of a step before ``step``; if there is one, drop those after."""
    found = _all(folder)
    good = [path for path in found if int(path.name[5:]) < step]
    if not good:
        return None
    for path in found[len(good) :]:
        shutil.rmtree(path, ignore_errors=True)
    return good[-1]


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
