"""The complete, frozen description of a run, as stored, shown and trained. Pure.

Knows neither database nor files nor devices. ``presets`` fills in what a user leaves out;
``service`` checks that dataset and model exist; the trainer reads a ``TrainerJob``, nothing else.
Field descriptions are the help texts of the form, the API's docs and the docs folder.
"""

from datetime import date
from enum import StrEnum
from typing import Literal

from pydantic import Field

from app.runs.parts import Part, Preference, Rewards, Sampling

SCHEMA_VERSION = 1
MOST_DEVICES = 64


class Preset(StrEnum):
    """A starting point, resolved by the model's width and the dataset's size."""

    QUICK = "quick"
    BALANCED = "balanced"
    QUALITY = "quality"


class Objective(StrEnum):
    """What is trained. ``simulated`` trains nothing, for load and fault tests."""

    SFT = "sft"
    DPO = "dpo"
    ORPO = "orpo"
    KTO = "kto"
    REWARD = "reward"
    GRPO = "grpo"
    SIMULATED = "simulated"


class Adapter(Part):
    """The LoRA adapter."""

    rank: int = Field(
        default=16, ge=1, le=1024, description="Size of the adapter's inner dimension."
    )
    alpha: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Scale of the adapter; equal to the rank is a good start.",
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of adapter inputs dropped while training."
    )
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        default="all-linear",
        description="Which layers get an adapter: all-linear, or names of modules.",
    )
    use_dora: bool = Field(
        default=False, description="DoRA: learns direction and size apart. Slower."
    )
    use_rslora: bool = Field(
        default=False, description="Scale by the square root of the rank; for high ranks."
    )
    init: Literal["default", "pissa", "loftq"] = Field(
        default="default",
        description="How the adapter starts. pissa: from the weights' largest part, in 16 bits. "
        "loftq: from what 4 bits lose.",
    )
    lora_plus_ratio: float = Field(
        default=1.0,
        ge=1,
        le=128,
        description="LoRA+: how many times faster the adapter's second matrix learns; 1: LoRA.",
    )
    train_embeddings: Literal["auto"] | bool = Field(
        default="auto",
        description="Train embeddings and head whole. auto: where the tokenizer has tokens that "
        "the model has no rows for.",
    )


class Training(Part):
    """Optimisation, batch and length."""

    epochs: float = Field(default=3, gt=0, le=1000, description="How often each example is seen.")
    max_steps: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Exactly so many steps, whatever the epochs say.",
    )
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="Peak learning rate.")
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="How the learning rate falls."
    )
    warmup_ratio: float = Field(
        default=0.03, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=1, description="Pull of the weights towards zero."
    )
    optimizer: Literal["auto", "adamw", "adamw_8bit"] = Field(
        default="auto", description="auto: adamw_8bit on NVIDIA cards, else adamw."
    )
    batch_size: int = Field(
        default=2, ge=1, le=4096, description="Examples (packed: sequences) at once on a device."
    )
    gradient_accumulation: int = Field(
        default=4, ge=1, le=4096, description="Batches summed up before a step."
    )
    max_length: int = Field(
        default=2048, ge=16, le=1_048_576, description="Tokens of an example that are kept."
    )
    packing: bool = Field(
        default=True, description="Put several examples into one sequence, kept apart."
    )
    assistant_only_loss: bool = Field(default=True, description="Learn the assistant's turns only.")
    gradient_checkpointing: Literal["auto"] | bool = Field(
        default="auto", description="Less memory for more time."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on cards that have it, else float32."
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, le=1e6, description="Gradients longer than this are cut."
    )
    neftune_alpha: float | None = Field(
        default=None, gt=0, le=100, description="Noise on the embeddings while training."
    )
    seed: int = Field(
        default=42, ge=0, le=2**31 - 1, description="Everything random follows from it."
    )
    deterministic: bool = Field(
        default=False,
        description="The same bits each time, on the same machine and versions. Slower on cards.",
    )


class Data(Part):
    """Which rows are trained and which are held out."""

    validation_fraction: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Share of the examples held out; does not apply where a split is named.",
    )
    split: str | None = Field(
        default=None,
        min_length=1,
        max_length=60,
        description="A stored split of this dataset version, which says what is held out.",
    )
    exclude_problem_rows: bool = Field(
        default=False, description="Leave out the rows that have errors."
    )


class EvaluationPlan(Part):
    """What is measured, and when."""

    every_steps: int | None = Field(
        default=None,
        ge=1,
        description="Validation loss every so many steps; empty: about ten times a run.",
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Stop after so many validations without a better loss.",
    )
    suites: tuple[Literal["heldout"], ...] = Field(
        default=("heldout",), description="Measured after training, base against tuned."
    )
    probe_prompts: tuple[()] = Field(default=(), description="Not available yet.")


class Checkpoints(Part):
    """When to save, and how many to keep."""

    every_steps: int | None = Field(
        default=None, ge=1, description="Save every so many steps; empty: with each validation."
    )
    keep: int = Field(
        default=2, ge=1, le=100, description="Last checkpoints kept, beside the best."
    )


class Watch(Part):
    """What is taken for trouble in mid-run, and what is done about it."""

    on_trouble: Literal["alert", "stop", "rollback"] = Field(
        default="alert",
        description="alert: say so. stop: fail, good checkpoints kept. rollback: once back "
        "to the last good checkpoint with half the learning rate.",
    )
    loss_steps: int = Field(
        default=10, ge=1, le=10_000, description="So many steps in a row make it trouble."
    )
    gradient_norm: float = Field(
        default=100, gt=0, le=1e9, description="A gradient longer than this is steep."
    )
    rising_validations: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Validation loss rising so often in a row, while training loss falls, is "
        "trouble. stop: end, the best weights kept.",
    )


class SimulatedFailure(Part):
    """A failure to act out."""

    kind: str
    at_step: int = Field(ge=0)


class Simulate(Part):
    """Switches of the simulated recipe, for tests."""

    steps: int = Field(default=100, ge=1, le=1_000_000)
    step_seconds: float = Field(default=0.05, ge=0, le=3600)
    fail: SimulatedFailure | None = None
    hang_at_step: int | None = None
    memory_bytes: int | None = Field(default=None, ge=0, le=2**34)


class RunConfig(Part):
    """All that decides how a run trains."""

    objective: Objective = Field(default=Objective.SFT, description="What is trained.")
    method: Literal["lora", "full"] = Field(
        default="lora",
        description="lora: an adapter beside frozen weights. full: all weights; small models only.",
    )
    engine: Literal["auto", "unsloth", "peft"] = Field(
        default="auto",
        description="auto: unsloth on NVIDIA cards for what it supports, else peft.",
    )
    quantization: Literal["nf4", "int8", "none"] = Field(
        default="none",
        description="nf4: the frozen weights in 4 bits (QLoRA). int8: in 8. none: 16 or 32 bits.",
    )
    fit: Literal["off", "check", "automatic", "fast", "balanced", "small"] = Field(
        default="off",
        description="Try a few steps before the run. check: fail at once, naming what would fit. "
        "automatic: make the smallest change that fits. fast, balanced, small: find settings.",
    )
    adapter: Adapter = Adapter()
    training: Training = Training()
    preference: Preference = Preference()
    sampling: Sampling = Sampling()
    rewards: Rewards = Rewards()
    data: Data = Data()
    evaluation: EvaluationPlan = EvaluationPlan()
    checkpoints: Checkpoints = Checkpoints()
    watch: Watch = Watch()
    simulate: Simulate | None = None


class Resources(Part):
    """What a run needs to start."""

    devices: int = Field(
        default=1, ge=1, le=MOST_DEVICES, description="How many cards of one box share each step."
    )
    kind: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto",
        description="auto: a GPU if the box has one. cuda: NVIDIA's. mps: Apple's.",
    )


class DatasetRef(Part):
    """A version of a dataset."""

    id: str
    version: int = Field(ge=1)


class RunSpec(Part):
    """What runs: complete, frozen, stored as JSON."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(min_length=1, max_length=120)
    dataset: DatasetRef
    base_model: str
    preset: Preset
    config: RunConfig
    resources: Resources = Resources()
    priority: Literal["low", "normal", "high"] = "normal"
    note: str = Field(default="", max_length=10_000)


class MeasuredFile(Part):
    """Another version, named as a ``TrainerJob`` names its own: its good rows are held out."""

    dataset_file: str
    table_file: str
    format: str = "messages"
    mapping: dict[str, str] | None = None
    content: str = ""


class TrainerJob(Part):
    """``spec.json`` of a job folder: the run, and where its inputs lie on this machine.

    Written by the supervisor or by hand. By hand ``dataset_file`` is JSONL in ``format``, and
    ``excluded_lines`` are line numbers (from 1) that are left out. Of a checked version it holds
    one row a line in ``format``, its columns named by ``mapping``; ``table_file`` says where the
    rows lie and which have errors, ``groups_file`` which repeat each other, and ``split_file``,
    if a split was chosen, which are not trained; those are held out, or in their place the rows of
    ``measured``. ``content`` is the version's hash. ``cache_folder`` keeps tokens for the next
    start. ``today`` is the day that chat templates are told, else the real one. ``device`` is a
    kind: which card it is decides CUDA_VISIBLE_DEVICES. ``fresh`` true ignores checkpoints that lie
    in the folder.
    """

    run: RunSpec
    dataset_file: str
    excluded_lines: tuple[int, ...] = ()
    table_file: str | None = None
    groups_file: str | None = None
    split_file: str | None = None
    measured: MeasuredFile | None = None
    format: str = "messages"
    mapping: dict[str, str] | None = None
    content: str = ""
    cache_folder: str | None = None
    today: date | None = None
    base_model_folder: str
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    fresh: bool = False
