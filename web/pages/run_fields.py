"""The fields of the new-run form: which settings it shows, how each reads and writes its value.

Pure. Knows no HTTP and no database; labels only, since help texts are ``RunConfig``'s descriptions.
A path such as ``training.learning_rate`` names the field in the API, the form and the errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from app.runs.spec import RunConfig
from web.filters import learning_rate


@dataclass(frozen=True)
class FormField:
    """One control. ``choices`` makes it a select; ``kind`` check makes it a switch.

    ``text`` is a number written in words of its own, ``words`` a line of text, ``long`` several.
    """

    path: str
    label: str
    kind: str = "number"  # number | select | check | text | words | long
    unit: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    optional: bool = False
    percent: bool = False

    @property
    def help(self) -> str:
        """Return the description that the spec gives this field."""
        return _description(self.path)


def _description(path: str) -> str:
    model: Any = RunConfig
    *parents, name = path.split(".")
    for parent in parents:
        model = model.model_fields[parent].annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise KeyError(path)
    return model.model_fields[name].description or ""


SPLIT = "data.split"  # its choices are those of the version
_FIT = (
    ("off", "Start at once"),
    ("check", "Check that it fits"),
    ("automatic", "Fit automatically"),
    ("fast", "Find the fastest"),
    ("balanced", "Find a balance"),
    ("small", "Find the smallest"),
)
_TROUBLE = (
    ("alert", "Say so"),
    ("stop", "Stop the run"),
    ("rollback", "Go back, half the rate"),
)
OBJECTIVE = FormField("objective", "Learn by", "select")  # its choices are those of the dataset
_AUTO = (("auto", "Automatic"), ("true", "On"), ("false", "Off"))
GROUPS: tuple[tuple[str, tuple[FormField, ...]], ...] = (
    (
        "Adapter",
        (
            FormField(
                "quantization",
                "Method",
                "select",
                choices=(("none", "LoRA, full weights"), ("nf4", "QLoRA, 4 bit NF4")),
            ),
            FormField("adapter.rank", "Rank"),
            FormField("adapter.alpha", "Alpha"),
            FormField("adapter.dropout", "Dropout"),
            FormField("adapter.use_dora", "DoRA", "check"),
            FormField("adapter.use_rslora", "rsLoRA", "check"),
        ),
    ),
    (
        "Preferences",
        (
            FormField("preference.beta", "Beta"),
            FormField("preference.label_smoothing", "Wrong labels", unit="%", percent=True),
            FormField("preference.desirable_weight", "Weight of good ones"),
            FormField("preference.undesirable_weight", "Weight of bad ones"),
        ),
    ),
    (
        "Rewards",
        (
            FormField("rewards.exact_match", "Exact match"),
            FormField("rewards.token_f1", "Shared words"),
            FormField("rewards.regex", "Pattern found"),
            FormField("rewards.pattern", "Pattern", "words", optional=True),
            FormField("rewards.json_schema", "JSON that fits"),
            FormField("rewards.schema_text", "JSON schema", "long", optional=True),
            FormField("rewards.length", "Length"),
            FormField("rewards.fewest_words", "Fewest words"),
            FormField("rewards.most_words", "Most words"),
        ),
    ),
    (
        "Answers",
        (
            FormField("sampling.num_generations", "Answers to a prompt"),
            FormField("sampling.max_completion_length", "Longest answer", unit="tokens"),
            FormField("sampling.temperature", "Temperature"),
            FormField("sampling.beta", "Held to before"),
        ),
    ),
    (
        "Training",
        (
            FormField("training.learning_rate", "Learning rate", "text"),
            FormField(
                "training.scheduler",
                "Schedule",
                "select",
                choices=(("cosine", "Cosine"), ("linear", "Linear"), ("constant", "Constant")),
            ),
            FormField("training.warmup_ratio", "Warm-up", unit="%", percent=True),
            FormField("training.epochs", "Epochs"),
            FormField("training.max_steps", "Steps", optional=True),
            FormField("training.batch_size", "Batch size"),
            FormField("training.gradient_accumulation", "Accumulation"),
            FormField("training.weight_decay", "Weight decay"),
            FormField(
                "training.optimizer",
                "Optimizer",
                "select",
                choices=(("auto", "Automatic"), ("adamw", "AdamW"), ("adamw_8bit", "AdamW, 8 bit")),
            ),
            FormField("training.max_grad_norm", "Gradient limit"),
            FormField("training.seed", "Seed"),
            FormField("training.deterministic", "The same bits each time", "check"),
        ),
    ),
    (
        "Memory",
        (
            FormField(
                "training.precision",
                "Precision",
                "select",
                choices=(("auto", "Automatic"), ("float32", "32 bit"), ("bfloat16", "bfloat16")),
            ),
            FormField("training.gradient_checkpointing", "Checkpointing", "select", choices=_AUTO),
            FormField("fit", "Before the run", "select", choices=_FIT),
            FormField(
                "engine",
                "Engine",
                "select",
                choices=(("auto", "Automatic"), ("unsloth", "Unsloth"), ("peft", "PEFT")),
            ),
        ),
    ),
    (
        "Data",
        (
            FormField("training.max_length", "Longest example", unit="tokens"),
            FormField("training.packing", "Packing", "check"),
            FormField("training.assistant_only_loss", "Learn answers only", "check"),
            FormField(SPLIT, "Split", "select", choices=(("", "By the seed"),), optional=True),
            FormField("data.validation_fraction", "Held out", unit="%", percent=True),
            FormField("training.neftune_alpha", "NEFTune noise", optional=True),
        ),
    ),
    (
        "Watching",
        (
            FormField("evaluation.every_steps", "Validate every", unit="steps", optional=True),
            FormField("evaluation.early_stopping_patience", "Stop after worse", optional=True),
            FormField("checkpoints.every_steps", "Save every", unit="steps", optional=True),
            FormField("checkpoints.keep", "Checkpoints kept"),
            FormField("watch.on_trouble", "At trouble", "select", choices=_TROUBLE),
            FormField("watch.loss_steps", "Trouble after", unit="steps"),
            FormField("watch.gradient_norm", "Steep gradient"),
            FormField("watch.rising_validations", "Rising validations"),
        ),
    ),
)
FIELDS = {field.path: field for _, fields in GROUPS for field in fields} | {
    OBJECTIVE.path: OBJECTIVE
}


def shown(field: FormField, value: object) -> str:
    """Return ``value`` as the control shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if field.kind == "text" and isinstance(value, float):
        return learning_rate(value)
    if isinstance(value, float):
        return f"{value * 100 if field.percent else value:.6g}"
    return str(value)


def parsed(field: FormField, text: str) -> object:
    """Return what the control means; what is no number stays text, for the spec to refuse."""
    text = text.strip()
    if text == "" and field.optional:
        return None
    if field.kind in {"words", "long"}:
        return text
    if field.kind == "check" or text in {"true", "false"}:
        return text == "true"
    if field.kind == "select":
        return text
    return _number(text, percent=field.percent)


def _number(text: str, *, percent: bool) -> object:
    plain = text.replace(",", "").replace("\u202f", "")  # a narrow space groups digits
    try:
        return (
            int(plain)
            if plain.lstrip("+-").isdigit() and not percent
            else float(plain) / (100 if percent else 1)
        )
    except ValueError:
        return text


def value_at(config: Mapping[str, Any], path: str) -> object:
    """Return the value at a dotted path of a dumped ``RunConfig``."""
    value: Any = config
    for part in path.split("."):
        value = value[part]
    return value


def changes(form: Mapping[str, str], base: Mapping[str, str]) -> dict[str, object]:
    """Return what a user changed: dotted path → value.

    ``form`` is what was posted, ``base`` what the preset had put into each control when the form
    was drawn. A switch that is off is not posted by browsers, so a hidden "false" stands before it.
    """
    return {
        path: parsed(field, form[path])
        for path, field in FIELDS.items()
        if path in form and form[path].strip() != base.get(path, "")
    }
