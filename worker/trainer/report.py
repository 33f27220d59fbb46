"""What a dataset costs in tokens of a model: ``python -m worker.trainer report FOLDER``.

Reads ``request.json``, makes the tokens that a run will train (or finds them in the cache), writes
``report.json``. Prints a line of JSON for each stretch that is done, at the end ``{"error": …}`` if
it failed. Needs no GPU and no torch. Exit codes are those of ``app.jobs.state``.
"""

import json
import traceback
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from app.datasets.problems import CATALOGUE, Code
from app.jobs.state import EXIT_CODES, EXIT_DONE
from worker.trainer import failures, plan
from worker.trainer.files import write_whole
from worker.trainer.filling import Model, tokens_of
from worker.trainer.sources import Source, of_lines, of_table
from worker.trainer.tokensets import UNCUT, Column, TokenSet

BATCH = 8  # rows of a step in the estimates
MOST_LINES = 1000  # that are named of each kind
_BINS = 40
_PERCENTILES = (5, 25, 50, 75, 90, 95, 99, 100)
_SEED = 42


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``request.json``: whose tokens of which rows. The fields are those of ``TrainerJob``."""

    base_model_folder: str
    dataset_file: str
    max_length: int
    table_file: str | None = None
    format: str = "messages"
    mapping: dict[str, str] | None = None
    content: str = ""
    cache_folder: str | None = None
    assistant_only: bool = True

    def source(self) -> Source:
        """Return the rows."""
        rows = Path(self.dataset_file)
        if self.table_file is None:
            return of_lines(rows)
        table = Path(self.table_file)
        return of_table(rows, table, content=self.content, form=self.format, mapping=self.mapping)

    def model(self) -> Model:
        """Return whose tokens."""
        cache = Path(self.cache_folder) if self.cache_folder else None
        return Model(Path(self.base_model_folder), cache)


def main(folder: Path) -> int:
    """Make the report of the folder's request; return the exit code."""
    try:
        request = msgspec.json.decode((folder / "request.json").read_bytes(), type=Request)
        tokens = tokens_of(
            request.model(),
            request.source(),
            assistant_only=request.assistant_only,
            told=lambda done, rows: _say(done=done, total=rows),
        )
        report = summarised(tokens, max_length=request.max_length)
        write_whole(folder / "report.json", json.dumps(report).encode())
    except Exception as error:
        traceback.print_exc()
        failure = failures.describe(error, None)
        _say(error=failure.evidence, kind=failure.kind.value)
        return EXIT_CODES[failure.kind]
    return EXIT_DONE


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def summarised(tokens: TokenSet, *, max_length: int) -> dict[str, Any]:
    """Return the report of a set as it is stored and shown; lengths are in tokens."""
    taken = np.flatnonzero(tokens.sizes)
    sizes, kept = tokens.sizes[taken], np.minimum(tokens.sizes[taken], max_length)
    learned, all_learned = tokens.learned(max_length)[taken], tokens.learned(UNCUT)[taken]
    long, unlearned = sizes > max_length, learned == 0
    lines = tokens.lines[taken]
    trained = kept[~unlearned].astype(np.int64)
    problems = _problems(tokens, lines, sizes, learned, max_length=max_length)
    return {
        "max_length": max_length,
        "rows": len(tokens),
        "lengths": _lengths(sizes),
        "too_long": {
            "rows": int(long.sum()),
            "tokens_cut": int((sizes.astype(np.int64) - kept).sum()),
            "trained_tokens_lost": int((all_learned - learned).sum()),
            "lines": lines[long][:MOST_LINES].tolist(),
        },
        "no_trained_tokens": {
            "rows": int(unlearned.sum()),
            "lines": lines[unlearned][:MOST_LINES].tolist(),
        },
        "template_rejects_row": {
            "rows": tokens.refused_rows,
            "lines": [
                {"line": int(tokens.lines[number]), "reason": reason}
                for number, reason in tokens.refused[:MOST_LINES]
            ],
        },
        "tokens": {"total": int(trained.sum()), "trained": int(learned.sum())},
        **_cost(trained, max_length=max_length),
        "by_code": {
            Code.TOO_LONG.value: int(long.sum()),
            Code.NO_TRAINED_TOKENS.value: int(unlearned.sum()),
            Code.TEMPLATE_REJECTS_ROW.value: tokens.refused_rows,
        },
        "problems": problems,
    }


def _lengths(sizes: Column) -> dict[str, Any]:
    if not len(sizes):
        return {"min": 0, "mean": 0, "max": 0, "percentiles": {}, "edges": [], "counts": []}
    longest = int(sizes.max())
    edges = np.unique(np.linspace(0, longest + 1, min(_BINS, longest + 1) + 1).astype(np.int64))
    counts, _ = np.histogram(sizes, bins=edges)
    values = np.percentile(sizes, _PERCENTILES, method="nearest")
    return {
        "min": int(sizes.min()),
        "mean": float(sizes.mean()),
        "max": longest,
        "percentiles": {
            str(share): int(value) for share, value in zip(_PERCENTILES, values, strict=True)
        },
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }


def _cost(lengths: Column, *, max_length: int) -> dict[str, Any]:
    """Return the waste and the steps of an epoch, each example alone and several in a row."""
    falling = np.sort(lengths)[::-1].tolist()
    rows = plan.filled(falling, max_length=max_length)
    packed = [sum(falling[place] for place in row) for row in rows]
    ways = {"unpacked": lengths.tolist(), "packed": packed}
    return {
        "padding": {name: _padding(sizes) for name, sizes in ways.items()},
        "steps": {
            "rows_in_step": BATCH,
            **{name: plan.steps_in_epoch(len(sizes), BATCH) for name, sizes in ways.items()},
        },
    }


def _padding(sizes: Sequence[int]) -> dict[str, Any]:
    """Return how many positions of an epoch's batches hold no token, as rows come by chance."""
    order = iter(plan.order_of_epoch(0, rows=len(sizes), seed=_SEED))
    positions = 0
    while batch := [sizes[place] for place in islice(order, BATCH)]:
        positions += max(batch) * len(batch)
    wasted = positions - sum(sizes)
    return {
        "rows": len(sizes),
        "padding_tokens": wasted,
        "share": wasted / positions if positions else 0.0,
    }


def _problems(
    tokens: TokenSet, lines: Column, sizes: Column, learned: Column, *, max_length: int
) -> list[dict[str, Any]]:
    """Return the first problems of each kind, by line, as a version's own are told."""
    refused = [
        _problem(Code.TEMPLATE_REJECTS_ROW, int(tokens.lines[number]), reason)
        for number, reason in tokens.refused[:MOST_LINES]
    ]
    long = [
        _problem(
            Code.TOO_LONG,
            line,
            f"the row has {size:,} tokens; the last {size - max_length:,} are cut off",
        )
        for line, size in _first(sizes > max_length, lines, sizes)
    ]
    unlearned = [
        _problem(
            Code.NO_TRAINED_TOKENS,
            line,
            f"none of its first {min(size, max_length):,} tokens is one to learn",
        )
        for line, size in _first(learned == 0, lines, sizes)
    ]
    return sorted([*refused, *long, *unlearned], key=lambda one: one["line"])


def _first(which: Column, lines: Column, sizes: Column) -> Iterator[tuple[int, int]]:
    places = np.flatnonzero(which)[:MOST_LINES]
    return zip(lines[places].tolist(), sizes[places].tolist(), strict=True)


def _problem(code: Code, line: int, message: str) -> dict[str, Any]:
    text = CATALOGUE[code]
    return {
        "line": line,
        "code": code.value,
        "severity": text.severity.value,
        "message": message,
        "hint": text.cure,
    }
