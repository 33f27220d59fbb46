"""Rows to train and rows held out, from the dataset's file; what was left out is told.

Knows the tokenizer, not the model.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.jobs.state import FailureKind
from app.runs.spec import TrainerJob
from worker.trainer import data, packing
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError


@dataclass(frozen=True)
class Prepared:
    """The data of a run, as the model will see it."""

    rows: list[list[data.Encoded]]
    validation: list[data.Encoded]
    held_out: list[data.Example]
    fingerprint: str
    steps_in_epoch: int


def prepare(job: TrainerJob, tokenizer: Any, emitter: Emitter) -> Prepared:
    """Read, split, encode and pack the dataset."""
    training = job.run.config.training
    examples = data.read_examples(Path(job.dataset_file), excluded=job.excluded_lines)
    fraction = job.run.config.data.validation_fraction
    trained, held_out = data.split(examples, fraction=fraction, seed=training.seed)
    train_set, validation = (
        data.encode_all(
            tokenizer,
            part,
            max_length=training.max_length,
            assistant_only=training.assistant_only_loss,
        )
        for part in (trained, held_out)
    )
    _tell(emitter, train_set, validation, max_length=training.max_length)
    if not train_set.examples:
        text = (
            f"none of the {len(trained)} examples has a token to learn within "
            f"{training.max_length} tokens (first: line {trained[0].line})"
        )
        raise TrainerError(FailureKind.BAD_DATASET, text)
    rows = (
        packing.pack(train_set.examples, max_length=training.max_length)
        if training.packing
        else packing.alone(train_set.examples)
    )
    in_step = training.batch_size * training.gradient_accumulation
    return Prepared(
        rows=rows,
        validation=validation.examples,
        held_out=held_out,
        fingerprint=_fingerprint(job, rows, in_step),
        steps_in_epoch=packing.steps_in_epoch(len(rows), in_step),
    )


def _tell(
    emitter: Emitter, trained: data.EncodedSet, held_out: data.EncodedSet, *, max_length: int
) -> None:
    kept, measured = len(trained.examples), len(held_out.examples)
    tokens = sum(len(example.ids) for example in trained.examples)
    emitter.log(f"{kept:,} examples with {tokens:,} tokens to train, {measured:,} held out.")
    cut = trained.truncated + held_out.truncated
    if cut:
        emitter.alert("too_long", f"{cut:,} examples were cut to {max_length:,} tokens.")
    lost = sorted(trained.untrained + held_out.untrained)
    if lost:
        lines = ", ".join(str(line) for line in lost[:5])
        text = f"{len(lost):,} examples have no token to learn and were left out (line {lines})."
        emitter.alert("no_trained_tokens", text)


def _fingerprint(job: TrainerJob, rows: Sequence[packing.Row], rows_in_step: int) -> str:
    """Name what a checkpoint depends on; learning rate and length of the run may change."""
    config = job.run.config
    parts = {
        "adapter": config.adapter.model_dump(mode="json"),
        "base_model": job.run.base_model,
        "quantization": config.quantization,
        "optimizer": config.training.optimizer,
        "rows_in_step": rows_in_step,
        "seed": config.training.seed,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for row in rows:
        digest.update(json.dumps([[example.ids, example.labels] for example in row]).encode())
    return digest.hexdigest()
