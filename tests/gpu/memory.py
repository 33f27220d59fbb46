"""The form's estimate of memory beside the peak that is measured, for models in many shapes.

    python -m tests.gpu.memory OUT_DIR [--families llama gemma3] [--settings nf4 full]

Models have random weights, real widths and vocabularies, and few layers. Each run trains six
steps of packed rows by our trainer, several of them at once. Writes memory.json into OUT_DIR and
ends with 1 if an estimate is off by more than 15 % of the peak. Both are without the context
that a process has on the card.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from app.basemodels.files import inspect
from app.jobs.state import EXIT_DONE
from app.runs.engines import choose
from app.runs.memory import estimate
from app.runs.spec import TrainerJob
from tests.gpu.baseline import make
from tests.gpu.throughput import WORK, Figures, job, start

BOUND, GIB = 0.15, 2**30
TRAINING = {"packing": True, "max_steps": 6, "learning_rate": 1e-5}
SETTINGS: Mapping[str, dict[str, Any]] = {
    "nf4": {},
    "int8": {"quantization": "int8"},
    "lora": {"quantization": "none"},
    "full": {"quantization": "none", "method": "full"},
    "peft": {"engine": "peft"},
    "keeps": {"training": {"gradient_checkpointing": False}},
}
WIDE = {"num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "hidden_size": 2048}
EXPERTS = {"num_experts_per_tok": 2, "num_hidden_layers": 6}
# The name that Transformers' classes begin with, and what a real model's config.json has.
FAMILIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"intermediate_size": 8192, "vocab_size": 128256}),
    "qwen2": ("Qwen2", {"intermediate_size": 11008, "vocab_size": 151936}),
    "qwen3": ("Qwen3", {"intermediate_size": 6144, "vocab_size": 151936}),
    "mistral": ("Mistral", {"intermediate_size": 7168, "vocab_size": 32768}),
    "gemma2": ("Gemma2", {"intermediate_size": 9216, "vocab_size": 256000}),
    "gemma3": ("Gemma3Text", {"intermediate_size": 6912, "vocab_size": 262144}),
    "phi3": ("Phi3", {"intermediate_size": 8192, "vocab_size": 32064}),
    "mixtral": ("Mixtral", {"intermediate_size": 4096, "num_local_experts": 8, **EXPERTS}),
    "qwen3_moe": ("Qwen3Moe", {"moe_intermediate_size": 768, "num_experts": 32, **EXPERTS}),
}


def make_model(family: str) -> Path:
    """Write a model of a family with random weights, and a tokenizer; return its folder."""
    import torch
    import transformers

    folder, small = WORK / f"wide-{family}", WORK / "model-tiny"
    if not small.is_dir():
        make(small, "tiny")
    shutil.copytree(small, folder, ignore=shutil.ignore_patterns("*config.json", "*.safetensors"))
    shutil.copy(small / "tokenizer_config.json", folder)
    name, values = FAMILIES[family]
    known = json.loads((small / "config.json").read_text())
    tokens = {key: known[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shape = {"num_hidden_layers": 12, "max_position_embeddings": 8192, **WIDE, **values, **tokens}
    config = getattr(transformers, f"{name}Config")(**shape, dtype="bfloat16")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")(config)
    model.save_pretrained(folder)
    return folder


def measured(folder: Path, model: Path) -> dict[str, Any]:
    """Run; return the estimate and the peak, in bytes."""
    code = start(folder).wait()
    if code != EXIT_DONE:
        return {"ended": f"{code}: {(folder / 'log.txt').read_text()[-500:]}"}
    config = TrainerJob.model_validate_json((folder / "spec.json").read_bytes()).run.config
    facts = inspect(model).facts
    guess = estimate(config, facts=facts, device_kind="cuda")
    peak = json.loads((folder / "report.json").read_text())["summary"]["peak_memory_bytes"]
    return {
        "engine": choose(config, device_kind="cuda", shape=facts.shape).engine,
        "parameters": facts.parameters,
        "estimated": guess.total - guess.runtime,
        "parts": vars(guess),
        "measured": peak,
        "off_by": (guess.total - guess.runtime) / peak - 1,
    }


def main() -> int:
    """Compare; return 1 if an estimate is off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--at-once", type=int, default=8)
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    figures = Figures(chosen.out / "memory.json")
    for family in chosen.families:  # each in a process of its own, for the card is to be empty
        code = f"from tests.gpu.memory import make_model; make_model({family!r})"
        if not (WORK / f"wide-{family}" / "config.json").exists():
            subprocess.run([sys.executable, "-c", code], check=True)
    pairs = list(product(chosen.families, chosen.settings))
    folders = {pair: written(*pair) for pair in pairs}

    def found(pair: tuple[str, str]) -> dict[str, Any]:
        return measured(folders[pair], WORK / f"wide-{pair[0]}")

    with ThreadPoolExecutor(chosen.at_once) as pool:
        for (family, setting), one in zip(pairs, pool.map(found, pairs), strict=True):
            kept = "ended" not in one and abs(one["off_by"]) <= BOUND
            figures.add(f"{family} {setting}", one, kept=kept)
            if "ended" not in one:
                told = (one["estimated"] / GIB, one["measured"] / GIB, one["off_by"])
                print(f"{family:10} {setting:6} {told[0]:.2f} {told[1]:.2f} {told[2]:+.1%}")
    return int(figures.broken > 0)


def written(family: str, setting: str) -> Path:
    """Write a job folder; return it."""
    more = {name: value for name, value in SETTINGS[setting].items() if name != "training"}
    training = {**TRAINING, **SETTINGS[setting].get("training", {})}
    return job(f"memory-{family}-{setting}", WORK / f"wide-{family}", training, **more)


if __name__ == "__main__":
    sys.exit(main())
