"""A run as one Python script that needs torch, transformers and PEFT, and nothing of ours. Pure.

On a CPU the script repeats the run's losses bit for bit (same versions, same number of threads);
a test holds it to that. Knows neither database nor files: it returns text.
"""

from collections.abc import Sequence
from pprint import pformat

from app.runs.exchange.script_text import BODY
from app.runs.spec import RunSpec

_HEAD = '''"""{name}: a run of Tunebox, to run again by hand.

    pip install torch transformers peft safetensors{extra}
    python {file} {model} {dataset}

MODEL is the folder of the base model {base_model}, DATASET the file of version {version} of
dataset {dataset_id}. Prints the loss of each step and leaves the adapter in ./adapter. {promise}
"""
'''
_EXACT = """On a CPU the
losses are those of the run, bit for bit; a GPU run trained by Unsloth comes close."""


def script(
    spec: RunSpec,
    *,
    excluded_lines: Sequence[int] = (),
    differences: Sequence[str] = (),
    model: str = "MODEL",
    dataset: str = "DATASET",
    file: str = "run.py",
) -> str:
    """Return the script that trains what ``spec`` describes.

    ``differences`` are sentences on what the run did that the script does not repeat.
    """
    config = spec.config
    head = _HEAD.format(
        name=_plain(spec.name),
        extra=" bitsandbytes" if config.quantization == "nf4" else "",
        file=file,
        model=model,
        dataset=dataset,
        base_model=_plain(spec.base_model),
        version=spec.dataset.version,
        dataset_id=_plain(spec.dataset.id),
        promise="\n\n".join(["It differs from the run:", *differences]) if differences else _EXACT,
    )
    chosen = {
        "quantization": config.quantization,
        "adapter": config.adapter.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json"),
        "validation_fraction": config.data.validation_fraction,
        "evaluate_every": config.evaluation.every_steps,
        "patience": config.evaluation.early_stopping_patience,
        "excluded_lines": sorted(excluded_lines),
        "leave_out_refused": config.data.exclude_problem_rows,
    }
    return f"{head}\nCONFIG = {pformat(chosen, sort_dicts=False, width=100)}\n{BODY}"


def _plain(text: str) -> str:
    """Return a name that cannot end the docstring it stands in."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split())
