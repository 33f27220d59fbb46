"""Pairs of answers, or answers one by one with a verdict, as a run learns preferences from them.

Each side of a dataset is a set of tokens of its own: made, kept and found again as conversations
are, with what is asked before the answer read only. Knows the tokenizer, not the model.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from app.jobs.state import FailureKind
from app.runs.spec import TrainerJob
from worker.trainer import plan, preparing
from worker.trainer.data import Tokens
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.preparing import HeldOut
from worker.trainer.sources import Source
from worker.trainer.stopping import Stop
from worker.trainer.tokensets import TokenSet

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, each with the prompt before it."""

    chosen: Tokens
    rejected: Tokens

    def __len__(self) -> int:
        """Return the tokens of both."""
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True)
class Judged:
    """An answer with its prompt before it, and whether it is a good one."""

    answer: Tokens
    is_good: bool

    def __len__(self) -> int:
        """Return its tokens."""
        return len(self.answer)


One = TypeVar("One", Pair, Judged)


@dataclass(frozen=True)
class Preferences(Generic[One]):
    """The data of a run: what is trained, and what is held out.

    ``held_out`` are the conversations of better answers held out, ``better`` and ``worse`` the
    tokens of the rows held out that have both.
    """

    rows: list[One]
    validation: list[One]
    held_out: HeldOut
    better: list[Tokens]
    worse: list[Tokens]
    fingerprint: str
    steps_in_epoch: int


@dataclass(frozen=True)
class _Sides:
    """The rows of a file as both sides; a row without an answer of a side learns nothing there."""

    source: Source
    chosen: TokenSet
    rejected: TokenSet
    most: int

    @cached_property
    def has(self) -> tuple[Mask, Mask]:
        """Which rows have a token to learn, of either side."""
        return self.chosen.learned(self.most) > 0, self.rejected.learned(self.most) > 0

    def pairs(self, rows: Mask) -> list[Pair]:
        """Return the pairs among these rows."""
        good, bad = self.has
        numbers = np.flatnonzero(rows & good & bad)
        return [
            Pair(self.chosen.row(number, self.most), self.rejected.row(number, self.most))
            for number in numbers.tolist()
        ]

    def judged(self, rows: Mask) -> list[Judged]:
        """Return every answer of these rows, in the order of the rows."""
        good, bad = (rows & one for one in self.has)
        found: list[Judged] = []
        for number in np.flatnonzero(good | bad).tolist():
            if good[number]:
                found.append(Judged(self.chosen.row(number, self.most), is_good=True))
            if bad[number]:
                found.append(Judged(self.rejected.row(number, self.most), is_good=False))
        return found


def prepare_pairs(job: TrainerJob, emitter: Emitter, stop: Stop | None = None) -> Preferences[Pair]:
    """Return the pairs of a run; an answer without its counterpart is a ``bad_dataset``."""
    return _prepared(job, emitter, stop, _Sides.pairs, what="pairs", in_pairs=True)


def prepare_judged(
    job: TrainerJob, emitter: Emitter, stop: Stop | None = None
) -> Preferences[Judged]:
    """Return the answers of a run one by one; of a pair both are taken."""
    return _prepared(job, emitter, stop, _Sides.judged, what="answers", in_pairs=False)


def _prepared(
    job: TrainerJob,
    emitter: Emitter,
    stop: Stop | None,
    taken: Callable[[_Sides, Mask], list[One]],
    *,
    what: str,
    in_pairs: bool,
) -> Preferences[One]:
    own = _sides(job, preparing.source_of(job), emitter, stop, in_pairs=in_pairs)
    good, bad = own.has
    usable = good & bad if in_pairs else good | bad
    held_out = preparing.held_out_of(job, own.source, own.chosen, np.flatnonzero(usable))
    theirs = preparing.measured_source(job)
    measured, shown = own, usable & held_out
    if theirs is not None:
        measured = _sides(job, theirs, emitter, stop, in_pairs=in_pairs)
        shown = np.ones(len(theirs), dtype=np.bool_)
    rows, validation = taken(own, usable & ~held_out), taken(measured, shown)
    if not rows:
        text = (
            f"none of the {len(own.source):,} rows has {what} with a token to learn within "
            f"{own.most} tokens (first: line {own.source.lines[0]})"
        )
        raise TrainerError(FailureKind.BAD_DATASET, text)
    tokens = sum(len(row) for row in rows)
    emitter.log(
        f"{len(rows):,} {what} with {tokens:,} tokens to train, {len(validation):,} held out."
    )
    _tell_losses(own, emitter)
    has_good, has_bad = measured.has
    asked = np.flatnonzero(shown & has_good)
    digest = hashlib.sha256(f"{own.chosen.digest} {own.rejected.digest}".encode()).hexdigest()
    training = job.run.config.training
    in_step = training.batch_size * training.gradient_accumulation
    both = np.flatnonzero(shown & has_good & has_bad)
    return Preferences(
        rows=rows,
        validation=validation,
        held_out=HeldOut(measured.source.of_side("chosen"), asked),
        better=preparing.rows_of(measured.chosen, asked, measured.most),
        worse=preparing.rows_of(measured.rejected, both, measured.most),
        fingerprint=preparing.fingerprint(job, digest, np.flatnonzero(usable & ~held_out)),
        steps_in_epoch=plan.steps_in_epoch(len(rows), in_step),
    )


def _sides(
    job: TrainerJob, source: Source, emitter: Emitter, stop: Stop | None, *, in_pairs: bool
) -> _Sides:
    sets: list[TokenSet] = []
    for side in ("chosen", "rejected"):
        tokens = preparing.encoded(job, source.of_side(side), emitter, stop)
        preparing.usable(job, tokens, emitter)  # or it fails, as the spec wishes
        if in_pairs:
            _require_all(job, tokens)
        sets.append(tokens)
    return _Sides(source, *sets, job.run.config.training.max_length)


def _require_all(job: TrainerJob, tokens: TokenSet) -> None:
    """Raise if a row lacks an answer of this side."""
    empty = tokens.sizes == 0
    if int(empty.sum()) == tokens.refused_rows:
        return
    refused = {number for number, _ in tokens.refused}
    first = next(number for number in np.flatnonzero(empty).tolist() if number not in refused)
    objective = job.run.config.objective.value
    text = (
        f"line {tokens.lines[first]} has one answer with a label, and {objective} learns from "
        "pairs of answers; train it with kto"
    )
    raise TrainerError(FailureKind.BAD_DATASET, text)


def _tell_losses(own: _Sides, emitter: Emitter) -> None:
    """Tell which answers were cut, and which have nothing to learn."""
    sides, most = (own.chosen, own.rejected), own.most
    cut = sum(int(np.count_nonzero(side.sizes > most)) for side in sides)
    if cut:
        emitter.alert("too_long", f"{cut:,} answers were cut to {most:,} tokens.")
    unlearned = [
        side.lines[(side.sizes > 0) & ~has] for side, has in zip(sides, own.has, strict=True)
    ]
    lost = np.unique(np.concatenate(unlearned))
    if len(lost):
        lines = ", ".join(str(line) for line in lost[:5])
        text = f"{len(lost):,} rows have an answer without a token to learn (line {lines})."
        emitter.alert("no_trained_tokens", text)
