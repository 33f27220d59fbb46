"""What was trained, into files and back: as it is for a checkpoint, as others load it for a result.

Safetensors and JSON only. Knows how each method keeps its weights; not when anything is saved.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from worker.trainer import adapters
from worker.trainer.loading import Loaded

ADAPTER, MODEL = "adapter", "model"
_ADAPTER_FILE, _STATE_FILE = "adapter_model.safetensors", "trained.safetensors"


def save(folder: Path, loaded: Loaded) -> None:
    """Write the trained weights as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    if loaded.is_full:
        _write(folder / _STATE_FILE, loaded.trainable())
        return
    _write(folder / _ADAPTER_FILE, _adapter(loaded))
    config = copy.copy(loaded.model.peft_config["default"])
    config.inference_mode, config.base_model_name_or_path = True, None
    config.save_pretrained(folder)


def load(folder: Path, loaded: Loaded) -> None:
    """Put weights that ``save`` wrote back into the model."""
    if not loaded.is_full:
        weights = load_file(folder / _ADAPTER_FILE, device=loaded.device)
        set_peft_model_state_dict(loaded.model, weights)
        return
    kept = load_file(folder / _STATE_FILE, device=loaded.device)
    with torch.no_grad():
        for name, parameter in loaded.trainable().items():
            parameter.copy_(kept[name])


def save_result(job_folder: Path, loaded: Loaded, *, base_model: str | None) -> Path:
    """Write the result so that plain PEFT or Transformers loads it; return its folder.

    No path of this machine is written into it.
    """
    folder = job_folder / (MODEL if loaded.is_full else ADAPTER)
    folder.mkdir(parents=True, exist_ok=True)
    if loaded.is_full:
        _save_model(folder, loaded, base_model=base_model)
        return folder
    weights, config = _adapter(loaded), copy.copy(loaded.model.peft_config["default"])
    if config.init_lora_weights == "pissa" and loaded.begun:
        weights = adapters.as_difference(weights, loaded.begun())
        config = adapters.doubled(config)
    _write(folder / _ADAPTER_FILE, weights)
    config.inference_mode, config.base_model_name_or_path = True, base_model
    config.save_pretrained(folder)
    if config.modules_to_save:
        loaded.tokenizer.save_pretrained(folder)
    return folder


def _save_model(folder: Path, loaded: Loaded, *, base_model: str | None) -> None:
    model = loaded.model
    name, model.config._name_or_path = model.config._name_or_path, base_model or ""  # noqa: SLF001  # PEFT's and Transformers' own name for it
    dtype = loaded.dtype
    state = {key: value.detach().to("cpu", dtype) for key, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    model.config._name_or_path = name  # noqa: SLF001  # as above
    loaded.tokenizer.save_pretrained(folder)


def _adapter(loaded: Loaded) -> Mapping[str, torch.Tensor]:
    return get_peft_model_state_dict(loaded.model, save_embedding_layers=False)


def _write(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    whole: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in weights.items():
        plain = tensor.detach().cpu().contiguous()
        # embeddings and head may be one tensor; a file wants each its own
        whole[name] = plain.clone() if plain.data_ptr() in seen else plain
        seen.add(plain.data_ptr())
    save_file(whole, path, metadata={"format": "pt"})
