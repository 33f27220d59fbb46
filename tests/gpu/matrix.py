"""Every method on every family of small random models, on a card: trained, saved, loaded again.

    python -m tests.gpu.matrix OUT_DIR [--families llama gemma2] [--methods qlora dora]
                               [--objectives sft dpo]

Each combination trains ten steps by our trainer, in a process of its own; plain PEFT (Transformers
alone for a full fine-tuning) then loads the result in the same bits and must find the losses that
the trainer reported. What is refused is listed with the trainer's sentence. Writes matrix.json
into OUT_DIR and ends with 1 if a combination fails.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from app.basemodels.facts import shape_of
from app.jobs.state import EXIT_CODES, EXIT_DONE, FailureKind
from app.runs import objectives
from app.runs.spec import Objective, RunConfig, TrainerJob
from tests.fixtures.preferences import judged, pairs
from tests.fixtures.tiny_families import FAMILIES, make_family
from tests.fixtures.tiny_model import rows, write_rows
from tests.gpu.throughput import WORK, Figures, events
from tests.worker.trainer_jobs import start, write_job

NF4 = {"quantization": "nf4"}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
METHODS: Mapping[str, dict[str, Any]] = {
    "lora": {},
    "qlora": NF4,
    "int8": {"quantization": "int8"},
    "full": {"method": "full"},
    "dora": {"adapter": {"use_dora": True}},
    "qdora": {**NF4, "adapter": {"use_dora": True}},
    "pissa": {"adapter": {"init": "pissa"}},
    "loftq": {**NF4, "adapter": {"init": "loftq"}},
    "rslora": {"adapter": {"use_rslora": True}},
    "lora_plus": {"adapter": {"lora_plus_ratio": 16}},
    "chosen": {"adapter": {"target_modules": ATTENTION}},
    "embeddings": {"adapter": {"train_embeddings": True}},
    "noise": {"adapter": {"dropout": 0.1}, "training": {"neftune_alpha": 5}},
    "lora_peft": {"engine": "peft"},
    "qlora_peft": {"engine": "peft", **NF4},
}
OBJECTIVES: Mapping[str, dict[str, Any]] = {
    "sft": {},
    "dpo": {"objective": "dpo", "training": {"packing": False}},
    "orpo": {"objective": "orpo", "training": {"packing": False}},
    "kto": {"objective": "kto", "training": {"packing": False}},
    "reward": {"objective": "reward", "training": {"packing": False}},
    "grpo": {
        "objective": "grpo",
        "training": {"packing": False, "batch_size": 8, "gradient_accumulation": 4},
        "sampling": {"max_completion_length": 16, "beta": 0.01},
        "rewards": {"exact_match": 0, "regex": 1, "pattern": "[aeiou]", "length": 1},
    },
}
STEPS, ROWS = 10, 80
BOUND = 0.01  # of a loss, that 16 bits may change in batches of another shape
BOUND_OF_EXPERTS = 0.03  # rounding sends a token to another expert
MORE_OF_VALUES = 0.02  # their head computes in 16 bits, ours in 32
SECONDS = 280


class Combination(NamedTuple):
    """What is trained how."""

    family: str
    method: str
    objective: str


def whole_config(method: str, objective: str) -> dict[str, Any]:
    """Return the configuration of a combination."""
    config, learns = METHODS[method], OBJECTIVES[objective]
    training = {"max_steps": STEPS, "learning_rate": 0.01, "max_length": 256}
    training |= {**config.get("training", {}), **learns.get("training", {})}
    adapter = {"rank": 8, "alpha": 16, **config.get("adapter", {})}
    whole = {**config, **learns, "training": training, "adapter": adapter}
    if config.get("method") == "full":
        del whole["adapter"]
        whole["training"]["learning_rate"] = 0.001
        whole["sampling"] = {**whole.get("sampling", {}), "beta": 0}
    return whole


def dataset_of(objective: str) -> tuple[Path, str]:
    """Return the file that an objective learns from, written at the first call, and its format."""
    is_plain = objective in ("sft", "grpo")
    path = WORK / f"tiny-{objective}.jsonl"
    if not path.exists():
        preferences = judged(ROWS) if objective == "kto" else pairs(ROWS)
        write_rows(path, rows(ROWS) if is_plain else preferences)
    return path, "messages" if is_plain else "preference"


def train(one: Combination, *, model: Path) -> dict[str, Any]:
    """Train one combination; return how it ended, with its losses, engine and form."""
    config = whole_config(one.method, one.objective)
    refused = objectives.refusals(RunConfig.model_validate(config))
    if refused:
        return {"refused": next(iter(refused.values()))}
    dataset, form = dataset_of(one.objective)
    folder = WORK / "matrix" / "-".join(one)
    write_job(folder, config, model=model, dataset=dataset, fresh=True, form=form)
    content = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**content, "device": "cuda"}))
    process = start(folder)
    try:
        code = process.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return {"folder": str(folder), "ended": f"not within {SECONDS} s"}
    told = events(folder)
    losses = [e["values"]["train/loss"] for e in told if "train/loss" in e["values"]]
    first = told[0]["values"] if told else {}
    found = {"folder": str(folder), "engine": first.get("engine"), "losses": losses}
    if code == EXIT_DONE:
        return found
    last = told[-1]["values"] if told else {}
    text = last.get("message") or (folder / "log.txt").read_text()[-600:]
    is_refused = code == EXIT_CODES[FailureKind.MODEL_UNAVAILABLE]
    return {**found, "refused" if is_refused else "ended": f"{code}: {text}"[:600]}


def plain(folder: Path, model: Path, config: RunConfig) -> Any:
    """Load the result as anybody would, in the bits in which it was trained."""
    import torch
    import transformers
    from peft import PeftModel

    from worker.trainer.loading import quantized
    from worker.trainer.weights import ADAPTER, MODEL

    is_full, writes = config.method == "full", objectives.KINDS[config.objective].writes
    kind = "AutoModelForCausalLM" if writes else "AutoModelForSequenceClassification"
    result = folder / (MODEL if is_full else ADAPTER)
    family = json.loads((model / "config.json").read_text())
    capped = family.get("attn_logit_softcapping")
    loaded: Any = getattr(transformers, kind).from_pretrained(
        result if is_full else model,
        dtype=torch.float32 if is_full else torch.bfloat16,
        device_map={"": 0},
        quantization_config=quantized(config.quantization, torch.bfloat16),
        attn_implementation="eager" if capped else "sdpa",
        **({} if writes else {"num_labels": 1}),
    )
    return (loaded if is_full else PeftModel.from_pretrained(loaded, result)).eval()


def largest_gap(folder: Path, model: Path) -> float:
    """Return by which share a figure differs where others load the result, at most.

    The figure is an answer's loss; of a reward model what the better answer is worth over the worse
    one, as a share of the largest such margin.
    """
    import torch
    from transformers import AutoTokenizer

    from worker.trainer.data import encode
    from worker.trainer.packing import padded, to_device
    from worker.trainer.sources import of_lines

    job = TrainerJob.model_validate_json((folder / "spec.json").read_bytes())
    loaded = plain(folder, model, job.run.config)
    tokenizer = AutoTokenizer.from_pretrained(model)
    source = of_lines(Path(job.dataset_file), form=job.format)
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]

    def answers(of: Any) -> dict[int, Any]:
        return {one.line: one for one in of.examples(range(len(of)))}

    def told_by_model(example: Any) -> Any:
        batch = padded([[encode(tokenizer, example, assistant_only=True)]], pad=0)
        if writes:
            return loaded(**to_device(batch, "cuda"))
        del batch["labels"]
        return loaded(**to_device(batch, "cuda"))

    writes = objectives.KINDS[job.run.config.objective].writes
    better = answers(source if job.format == "messages" else source.of_side("chosen"))
    worse = {} if writes else answers(source.of_side("rejected"))
    name = "loss" if writes else "reward_margin"
    told = [item["tuned_scores"][name] for item in items]
    found = []
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        for item in items:
            line = item["line"]
            if writes:
                found.append(told_by_model(better[line]).loss.item())
            else:
                one, other = (told_by_model(of[line]).logits.item() for of in (better, worse))
                found.append(one - other)
    gaps = [abs(one - other) for one, other in zip(found, told, strict=True)]
    scale = max((abs(one) for one in told), default=0)
    shares = [gap / (one if writes else scale) for gap, one in zip(gaps, told, strict=True)]
    return max(shares, default=math.inf)


def verdict(one: Combination, found: dict[str, Any], model: Path) -> bool:
    """Add what plain PEFT finds; tell whether the combination is as it should be."""
    if "refused" in found:
        return True
    if "ended" in found:
        return False
    try:
        gap = largest_gap(Path(found["folder"]), model)
    except Exception as error:  # noqa: BLE001  # whatever fails there is a finding
        found["ended"] = f"plain PEFT: {type(error).__name__}: {error}"[:600]
        return False
    found["largest_gap"] = gap
    shape = shape_of(json.loads((model / "config.json").read_text()))
    bound = BOUND_OF_EXPERTS if shape.experts else BOUND
    if not objectives.KINDS[Objective(one.objective)].writes:
        bound += MORE_OF_VALUES
    return gap <= bound and len(found["losses"]) == STEPS


def results(
    wanted: list[Combination], models: Mapping[str, Path], *, at_once: int
) -> Iterator[tuple[Combination, dict[str, Any]]]:
    """Yield each combination when it has ended."""
    with ThreadPoolExecutor(at_once) as pool:
        begun = {pool.submit(train, one, model=models[one.family]): one for one in wanted}
        for ended in as_completed(begun):
            yield begun[ended], ended.result()


def main() -> int:
    """Train and compare; return 1 if a combination fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        "--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES)
    )
    parser.add_argument("--at-once", type=int, default=8)
    chosen = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    figures = Figures(chosen.out / "matrix.json")
    models = {one: make_family(WORK / f"tiny-{one}", one) for one in chosen.families}
    for objective in chosen.objectives:
        dataset_of(objective)
    wanted = [
        Combination(family, method, objective)
        for objective, method, family in product(chosen.objectives, chosen.methods, chosen.families)
    ]
    for one, found in results(wanted, models, at_once=chosen.at_once):
        kept = verdict(one, found, models[one.family])
        figures.add(" ".join(one), found, kept=kept)
    return int(figures.broken > 0)


if __name__ == "__main__":
    sys.exit(main())
