"""After training: base against tuned on the rows held out. Loss, and greedy answers with scores.

The base is the same model as it was before training. Knows nothing of steps or optimizers.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from app.evaluations import scoring
from app.evaluations.significance import (
    Estimate,
    mean,
    mean_difference,
    ratio,
    ratio_difference,
)
from worker.trainer import generating
from worker.trainer.data import IGNORED, Example, Tokens, render
from worker.trainer.emitter import Emitter
from worker.trainer.loading import Loaded
from worker.trainer.packing import to_device
from worker.trainer.prompting import asked as asked_of
from worker.trainer.stopping import Stop

MOST_ITEMS = 200
MOST_NEW_TOKENS = 1024
MARGIN = 16  # tokens that an answer may be longer than the longest expected one
PREFERENCE = "preference_accuracy"  # share of pairs whose better answer is the likelier one
BETTER = {"loss": "lower", "perplexity": "lower"}


@dataclass(frozen=True)
class Question:
    """A held-out row: what is asked, and the answer its author wrote; and a worse one if known."""

    example: Example
    encoded: Tokens
    prompt: list[dict[str, Any]]
    expected: str
    worse: Tokens | None = None


def evaluate(
    loaded: Loaded,
    examples: Iterable[Example],
    encoded: Sequence[Tokens],
    *,
    worse: Sequence[Tokens] = (),
    emitter: Emitter,
    stop: Stop,
    step: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return report.json's metrics and the items of items.jsonl, base against tuned."""
    asked = questions(examples, encoded, worse)
    if not asked:
        return {}, []
    if loaded.engine == "unsloth":
        from unsloth import FastLanguageModel  # refuses to be imported without a card

        FastLanguageModel.for_inference(loaded.model)
    loaded.model.eval()
    progress = Progress(emitter, stop, total=4 * len(asked) + 2 * len(worse), step=step)
    losses, answers, prefers = {}, {}, {}
    for who in ("base", "tuned"):
        off = loaded.untrained() if who == "base" else nullcontext()
        with off, torch.no_grad(), loaded.autocast():
            losses[who] = [_loss(loaded, one.encoded, progress) for one in asked]
            prefers[who] = [
                _prefers(loaded, one, loss, progress)
                for one, loss in zip(asked, losses[who], strict=True)
            ]
            answers[who] = _answers(loaded, asked, progress)
    weights = [float(one.encoded.trained) for one in asked]
    items = [
        _item(
            index,
            one,
            {who: (losses[who][index], prefers[who][index], answers[who][index]) for who in losses},
        )
        for index, one in enumerate(asked)
    ]
    return _metrics(items, losses["base"], losses["tuned"], weights), items


def questions(
    examples: Iterable[Example], encoded: Sequence[Tokens], worse: Sequence[Tokens] = ()
) -> list[Question]:
    """Return what can be asked: rows with an answer in words, at most ``MOST_ITEMS``, by line."""
    by_line = {one.line: one for one in encoded}
    worse_by_line = {one.line: one for one in worse}
    found: list[Question] = []
    for example in examples:
        answer = asked_of(example) if example.line in by_line else None
        if answer is not None:
            prompt, expected = [dict(turn) for turn in answer[0]], answer[1]
            worse_one = worse_by_line.get(example.line)
            found.append(Question(example, by_line[example.line], prompt, expected, worse_one))
        if len(found) == MOST_ITEMS:
            break
    return found


class Progress:
    """Tells how far the evaluation is, and leaves when a stop was asked for."""

    def __init__(self, emitter: Emitter, stop: Stop, *, total: int, step: int) -> None:
        self._emitter, self._stop, self._total, self._step = emitter, stop, total, step
        self._done = self._told = 0

    def add(self, count: int) -> None:
        """Count what was done; raise ``Stopped`` if a stop was asked for."""
        self._stop.check()
        self._done += count
        if self._done - self._told < self._total / 10 and self._done < self._total:
            return
        self._told = self._done
        self._emitter.phase("evaluating", step=self._step, done=self._done, total=self._total)


def _loss(loaded: Loaded, encoded: Tokens, progress: Progress) -> float:
    """Return the summed loss of an example's learned tokens."""
    progress.add(1)
    batch = to_device(loaded.collate([[encoded]]), loaded.device)
    one = torch.tensor(1, device=loaded.device)
    return loaded.model(**batch, num_items_in_batch=one, use_cache=False).loss.item()


def _prefers(loaded: Loaded, one: Question, loss: float, progress: Progress) -> float | None:
    """Return 1 if the better answer's tokens are the likelier ones in the mean, 0 if not."""
    if one.worse is None:
        return None
    other = _loss(loaded, one.worse, progress) / one.worse.trained
    return float(loss / one.encoded.trained < other)


def _answers(loaded: Loaded, asked: Sequence[Question], progress: Progress) -> list[str]:
    """Generate greedily, the shortest prompts first, so that little is padded."""
    prompts = [
        render(loaded.tokenizer, one.prompt, tools=one.example.tools, ask=True) for one in asked
    ]
    longest = max(_answer_length(one.encoded) for one in asked)
    most = min(longest + MARGIN, MOST_NEW_TOKENS)
    learned = {label for one in asked for label in one.encoded.labels}
    ends = generating.ends_of(loaded, learned)
    order = sorted(range(len(asked)), key=lambda at: len(prompts[at]))
    texts = [""] * len(asked)
    at_once = generating.AT_ONCE[loaded.device]
    for start in range(0, len(order), at_once):
        chosen = order[start : start + at_once]
        found = generating.answers(loaded, [prompts[at] for at in chosen], most=most, ends=ends)
        for at, answer in zip(chosen, found, strict=True):
            texts[at] = generating.text_of(loaded, answer)
        progress.add(len(chosen))
    return texts


def _answer_length(encoded: Tokens) -> int:
    """Return the tokens of the last learned stretch."""
    length = 0
    for label in reversed(encoded.labels):
        if label != IGNORED:
            length += 1
        elif length:
            break
    return length


def item_of(index: int, one: Question) -> dict[str, Any]:
    """Return what an item of items.jsonl says of its question."""
    return {
        "index": index,
        "line": one.example.line,
        "prompt": one.prompt,
        "expected": one.expected,
    }


def _item(
    index: int, one: Question, results: dict[str, tuple[float, float | None, str]]
) -> dict[str, Any]:
    item = item_of(index, one)
    for who, (loss, prefers, answer) in results.items():
        item[f"{who}_output"] = answer
        figures = {"loss": loss / one.encoded.trained, **scoring.scores(answer, one.expected)}
        if prefers is not None:
            figures[PREFERENCE] = prefers
        item[f"{who}_scores"] = figures
    return item


def _metrics(
    items: Sequence[dict[str, Any]],
    base: Sequence[float],
    tuned: Sequence[float],
    weights: Sequence[float],
) -> dict[str, Any]:
    found = {
        "loss": (
            ratio(base, weights),
            ratio(tuned, weights),
            ratio_difference(base, tuned, weights),
        ),
        "perplexity": (
            ratio(base, weights, through=perplexity),
            ratio(tuned, weights, through=perplexity),
            ratio_difference(base, tuned, weights, through=perplexity),
        ),
    }
    of_loss = {name: _metric(name, three, len(items)) for name, three in found.items()}
    return of_loss | means_of(items, (*scoring.METRICS, PREFERENCE))


def means_of(items: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return the metrics that are means of the items' scores of these names, where there are any."""
    found: dict[str, Any] = {}
    for name in names:
        scored = [item for item in items if name in item["base_scores"]]
        before = [item["base_scores"][name] for item in scored]
        after = [item["tuned_scores"][name] for item in scored]
        if scored:
            three = (mean(before), mean(after), mean_difference(before, after))
            found[name] = _metric(name, three, len(scored))
    return found


def _metric(name: str, three: tuple[Estimate, Estimate, Estimate], n: int) -> dict[str, Any]:
    base, tuned, difference = (estimate.as_dict() for estimate in three)
    return {
        "base": base,
        "tuned": tuned,
        "difference": difference,
        "n": n,
        "better": BETTER.get(name, "higher"),
    }


def perplexity(loss: float) -> float:
    """Return e to the loss, kept a number where the loss is absurd."""
    return math.exp(min(loss, 700.0))
