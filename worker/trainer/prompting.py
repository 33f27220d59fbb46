"""Prompts with the answers that are expected of them, from a dataset of conversations.

A conversation's last assistant turn is what is expected, all before it the prompt. Which rows are
held out is decided as for conversations. Knows the tokenizer, not the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.jobs.state import FailureKind
from app.runs.spec import TrainerJob
from worker.trainer import data, plan, preparing
from worker.trainer.emitter import Emitter
from worker.trainer.failures import TrainerError
from worker.trainer.preparing import HeldOut
from worker.trainer.stopping import Stop


@dataclass(frozen=True)
class Prompt:
    """What is asked, as tokens that open the assistant's turn, and what is expected."""

    line: int
    ids: list[int]
    expected: str


@dataclass(frozen=True)
class Prompts:
    """The data of a run. ``encoded`` are the conversations held out, ``learned`` tokens of some."""

    rows: list[Prompt]
    validation: list[Prompt]
    held_out: HeldOut
    encoded: list[data.Tokens]
    learned: set[int]
    fingerprint: str
    steps_in_epoch: int
    prompts_in_step: int


def prepare_prompts(
    job: TrainerJob, tokenizer: Any, emitter: Emitter, stop: Stop | None = None
) -> Prompts:
    """Return the prompts of a run; what has no text to expect, or no room to answer, is left out."""
    training, sampling = job.run.config.training, job.run.config.sampling
    prepared = preparing.prepare(job, emitter, stop)
    room = training.max_length - sampling.max_completion_length
    tokens = [one for row in prepared.rows for one in row]
    numbers = [one.number for one in tokens]
    found = list(_prompts(prepared.source.examples(numbers), tokenizer))
    rows = [one for one in found if len(one.ids) <= room]
    if not rows:
        text = (
            f"none of the {len(numbers):,} examples has a prompt of at most {room:,} tokens and "
            "a text to expect"
        )
        raise TrainerError(FailureKind.BAD_DATASET, text)
    if len(rows) < len(numbers):
        text = (
            f"{len(numbers) - len(rows):,} examples are left out: they expect no text, or have "
            f"more than {room:,} tokens before the answer."
        )
        emitter.alert("too_long", text)
    checked = _prompts(iter(prepared.held_out), tokenizer)
    in_step = max(
        1, training.batch_size * training.gradient_accumulation // sampling.num_generations
    )
    return Prompts(
        rows=rows,
        validation=[one for one in checked if len(one.ids) <= room],
        held_out=prepared.held_out,
        encoded=prepared.validation,
        learned={label for one in tokens[:100] for label in one.labels},
        fingerprint=prepared.fingerprint,
        steps_in_epoch=plan.steps_in_epoch(len(rows), in_step),
        prompts_in_step=in_step,
    )


def _prompts(examples: Iterator[data.Example], tokenizer: Any) -> Iterator[Prompt]:
    for example in examples:
        found = asked(example)
        if found is not None:
            turns, expected = found
            ids = data.render(tokenizer, turns, tools=example.tools, ask=True)
            yield Prompt(example.line, ids, expected)


def asked(example: data.Example) -> tuple[Sequence[Any], str] | None:
    """Return the turns before the last answer and its text; None where there is none in words."""
    turns = list(example.messages)
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    expected = turns[-1].get("content") if turns else None
    if not isinstance(expected, str) or len(turns) < 2:  # noqa: PLR2004  # one asks, one answers
        return None
    return turns[:-1], expected.strip()
