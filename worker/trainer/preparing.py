"""Rows to train and rows held out, from the dataset's file; what was left out is told.

Knows the tokenizer, not the model.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.datasets.formats.preference import Side
from app.jobs.state import FailureKind
from app.runs.spec import TrainerJob
from worker.trainer import data, plan
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.filling import Model, tokens_of
from worker.trainer.sources import Source, of_lines, of_table
from worker.trainer.splitting import Keys, held_out_places
from worker.trainer.stopping import Stop
from worker.trainer.tokensets import Row, TokenSet

Numbers = npt.NDArray[np.int64]
_TOLD_ROWS = 20_000


@dataclass(frozen=True)
class HeldOut:
    """The conversations of rows held out, read when they are asked for."""

    source: Source
    numbers: Numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[data.Example]:
        return self.source.examples(self.numbers.tolist())

    def of_side(self, side: Side) -> "HeldOut":
        """Return the same rows with their better or worse answers."""
        return HeldOut(self.source.of_side(side), self.numbers)


@dataclass(frozen=True)
class Prepared:
    """The data of a run, as the model will see it; ``rows`` are trained, from ``source``."""

    rows: list[list[Row]]
    validation: list[Row]
    held_out: HeldOut
    fingerprint: str
    steps_in_epoch: int
    source: Source


@dataclass(frozen=True)
class _Side:
    """The rows of one side, and how many tokens each has to learn."""

    numbers: Numbers
    learned: Numbers

    @property
    def kept(self) -> Numbers:
        return self.numbers[self.learned > 0]

    @property
    def lost(self) -> Numbers:
        return self.numbers[self.learned == 0]


def prepare(job: TrainerJob, emitter: Emitter, stop: Stop | None = None) -> Prepared:
    """Read, encode, split and pack the dataset; tokens that were made before are not made again."""
    training = job.run.config.training
    source = source_of(job)
    tokens = encoded(job, source, emitter, stop)
    taken = usable(job, tokens, emitter)
    held_out = held_out_of(job, source, tokens, taken)
    learned = tokens.learned(training.max_length)
    sides = [
        _Side(numbers, learned[numbers])
        for numbers in (taken[~held_out[taken]], taken[held_out[taken]])
    ]
    trained, validation = sides
    own = _Measured(HeldOut(source, validation.kept), tokens)
    measured = _measured(job, own, emitter, stop)
    _tell(emitter, tokens, sides, measured=len(measured.rows), max_length=training.max_length)
    if not len(trained.kept):
        text = (
            f"none of the {len(trained.numbers)} examples has a token to learn within "
            f"{training.max_length} tokens (first: line {first_line(tokens, trained.numbers)})"
        )
        raise TrainerError(FailureKind.BAD_DATASET, text)
    examples = rows_of(tokens, trained.kept, training.max_length)
    rows = (
        plan.pack(examples, max_length=training.max_length)
        if training.packing
        else plan.alone(examples)
    )
    in_step = training.batch_size * training.gradient_accumulation
    return Prepared(
        rows=rows,
        validation=rows_of(measured.tokens, measured.rows.numbers, training.max_length),
        held_out=measured.rows,
        fingerprint=fingerprint(job, tokens.digest, trained.kept),
        steps_in_epoch=plan.steps_in_epoch(len(rows), in_step),
        source=source,
    )


@dataclass(frozen=True)
class _Measured:
    """The rows to measure with, and the set that has their tokens."""

    rows: HeldOut
    tokens: TokenSet


def _measured(job: TrainerJob, own: _Measured, emitter: Emitter, stop: Stop | None) -> _Measured:
    """Return the rows held out, or those of the file that a split names in their place."""
    source = measured_source(job)
    if source is None:
        return own
    theirs = encoded(job, source, emitter, stop)
    numbers = usable(job, theirs, emitter)
    learned = theirs.learned(job.run.config.training.max_length)
    return _Measured(HeldOut(source, numbers[learned[numbers] > 0]), theirs)


def source_of(job: TrainerJob) -> Source:
    """Return the rows that a job trains."""
    if job.table_file is None:
        return of_lines(Path(job.dataset_file), excluded=job.excluded_lines, form=job.format)
    return of_table(
        Path(job.dataset_file),
        Path(job.table_file),
        content=job.content,
        form=job.format,
        mapping=job.mapping,
    )


def measured_source(job: TrainerJob) -> Source | None:
    """Return the rows of the file that a split names to measure with, if it names one."""
    named = job.measured
    if named is None:
        return None
    return of_table(
        Path(named.dataset_file),
        Path(named.table_file),
        content=named.content,
        form=named.format,
        mapping=named.mapping,
    )


def encoded(job: TrainerJob, source: Source, emitter: Emitter, stop: Stop | None) -> TokenSet:
    """Return the tokens of all rows; how far it is is told."""
    cache = Path(job.cache_folder) if job.cache_folder else None

    def told(done: int, rows: int) -> None:
        if stop is not None:
            stop.check()
        if done % _TOLD_ROWS == 0 and done:
            emitter.phase("preparing", done=done, total=rows)

    return tokens_of(
        Model(Path(job.base_model_folder), cache, job.today),
        source,
        assistant_only=job.run.config.training.assistant_only_loss,
        told=told,
    )


def usable(job: TrainerJob, tokens: TokenSet, emitter: Emitter) -> Numbers:
    """Return the rows that the template takes; if it refuses some, fail or leave them out."""
    if not tokens.refused_rows:
        return np.arange(len(tokens))
    named = [(int(tokens.lines[number]), reason) for number, reason in tokens.refused]
    failure = data.rejection(named, tokens.refused_rows)
    if not job.run.config.data.exclude_problem_rows:
        raise failure
    emitter.alert("template_rejects_row", f"{tokens.refused_rows:,} rows left out: {failure}")
    return np.flatnonzero(tokens.sizes)


def held_out_of(
    job: TrainerJob, source: Source, tokens: TokenSet, taken: Numbers
) -> npt.NDArray[np.bool_]:
    """Return which rows are held out: by the chosen split, else at random by what they say."""
    if job.split_file is not None:
        sides = np.fromfile(job.split_file, dtype=np.uint8)
        return sides[source.places.astype(np.int64)] == 1
    keys = _keys(job, source, tokens)[taken]
    config = job.run.config
    places = held_out_places(
        keys, fraction=config.data.validation_fraction, seed=config.training.seed
    )
    found = np.zeros(len(tokens), dtype=np.bool_)
    found[taken[sorted(places)]] = True
    return found


def _keys(job: TrainerJob, source: Source, tokens: TokenSet) -> Keys:
    """Return a number for each row by which it is held out; rows of a group share their first's."""
    own = np.asarray(tokens.keys)
    if job.groups_file is None:
        return own
    leaders = np.fromfile(job.groups_file, dtype=np.uint64)[source.places.astype(np.int64)]
    at = np.minimum(np.searchsorted(source.places, leaders), len(source) - 1)
    is_here = source.places[at] == leaders  # a leader may be a row with errors
    return np.where(is_here, own[at], leaders)


def rows_of(tokens: TokenSet, numbers: Numbers, most: int) -> list[Row]:
    """Return rows by their numbers, each cut to ``most`` tokens."""
    return [tokens.row(number, most) for number in numbers.tolist()]


def first_line(tokens: TokenSet, numbers: Numbers) -> int:
    """Return the line of the first of these rows, 0 if there is none."""
    return int(tokens.lines[numbers[0]]) if len(numbers) else 0


def _tell(
    emitter: Emitter, tokens: TokenSet, sides: list[_Side], *, measured: int, max_length: int
) -> None:
    trained = sides[0]
    lengths = np.minimum(tokens.sizes[trained.kept], max_length)
    emitter.log(
        f"{len(trained.kept):,} examples with {int(lengths.sum()):,} tokens to train, "
        f"{measured:,} held out."
    )
    cut = int(np.count_nonzero(tokens.sizes > max_length))
    if cut:
        emitter.alert("too_long", f"{cut:,} examples were cut to {max_length:,} tokens.")
    lost = np.sort(tokens.lines[np.concatenate([side.lost for side in sides])])
    if len(lost):
        lines = ", ".join(str(line) for line in lost[:5])
        text = f"{len(lost):,} examples have no token to learn and were left out (line {lines})."
        emitter.alert("no_trained_tokens", text)


def fingerprint(job: TrainerJob, tokens: str, trained: Numbers) -> str:
    """Name what a checkpoint depends on; learning rate and length of the run may change.

    ``tokens`` names all tokens, ``trained`` are the rows that are trained.
    """
    config = job.run.config
    rows_in_step = config.training.batch_size * config.training.gradient_accumulation
    parts = {
        "adapter": config.adapter.model_dump(mode="json"),
        "base_model": job.run.base_model,
        "quantization": config.quantization,
        "optimizer": config.training.optimizer,
        "rows_in_step": rows_in_step,
        "seed": config.training.seed,
        "max_length": config.training.max_length,
        "packing": config.training.packing,
        "tokens": tokens,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    digest.update(trained.tobytes())
    return digest.hexdigest()
