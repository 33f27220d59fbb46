"""Which examples share a row, and which rows a step trains. Pure: counts tokens, knows none."""

import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from worker.trainer.data import Tokens

One = TypeVar("One", bound=Tokens)


def pack(examples: Sequence[One], *, max_length: int) -> list[list[One]]:
    """Fill rows of at most ``max_length`` tokens: longest first, each where least room is left."""
    order = sorted(examples, key=lambda one: (-len(one), one.line))
    return [
        [order[place] for place in row]
        for row in filled([len(one) for one in order], max_length=max_length)
    ]


def filled(lengths: Sequence[int], *, max_length: int) -> list[list[int]]:
    """Return the rows that ``pack`` fills, as places in ``lengths``, which fall or stay."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted; only where something fits
    least = lengths[-1] if lengths else 0
    for place, length in enumerate(lengths):
        at = bisect_left(room, (length, -1))
        if at < len(room):
            left, row = room.pop(at)
        else:
            left, row = max_length, len(rows)
            rows.append([])
        rows[row].append(place)
        if left - length >= least:
            insort(room, (left - length, row))
    return rows


def alone(examples: Sequence[One]) -> list[list[One]]:
    """Give each example a row of its own."""
    return [[example] for example in examples]


def steps_in_epoch(rows: int, rows_in_step: int) -> int:
    """Return how many steps see each row once."""
    return -(-rows // rows_in_step)


def rows_of_step(step: int, *, rows: int, rows_in_step: int, seed: int) -> list[int]:
    """Return which rows step ``step`` (from 0) trains.

    A function of the step's number, so that nothing but the number needs to be saved.
    """
    epoch, place = divmod(step, steps_in_epoch(rows, rows_in_step))
    return order_of_epoch(epoch, rows=rows, seed=seed)[
        place * rows_in_step : (place + 1) * rows_in_step
    ]


@lru_cache(maxsize=2)
def order_of_epoch(epoch: int, *, rows: int, seed: int) -> list[int]:
    """Return the rows' order in an epoch."""
    order = list(range(rows))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order
