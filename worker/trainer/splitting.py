"""Which rows are held out: by a chosen split, or by a hash of what a row says. Pure.

The random split follows from content and seed alone: the rows with the smallest mixed hashes are
held out, so equal rows go the same way, a changed row moves no other, and rows that repeat each
other, which share a leader, stay on one side.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.datasets.mixing import Keys, mix

_written = json.JSONEncoder(sort_keys=True, check_circular=False).encode


def key_of(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return 64 bits that stand for a conversation."""
    content = _written(messages)
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "little")


def held_out_places(keys: Keys, *, fraction: float, seed: int) -> set[int]:
    """Return the places held out; at least one where a fraction is asked for and two rows exist.

    ``keys`` has one number a row: its own, or that of the row whose side it shares. Rows with one
    key go to one side, so the share held out may differ a little from ``fraction``.
    """
    wanted = round(len(keys) * fraction)
    if fraction <= 0 or len(keys) < 2:  # noqa: PLR2004  # one row cannot be parted
        return set()
    wanted = min(max(wanted, 1), len(keys) - 1)
    mixed = mix(keys, seed)
    order = np.argsort(mixed, kind="stable")
    return set(order[: _whole_groups(mixed[order], wanted)].tolist())


def _whole_groups(mixed: Keys, wanted: int) -> int:
    """Return the number nearest to ``wanted`` at which no group is cut, with rows on both sides."""
    starts = np.flatnonzero(np.append(True, mixed[1:] != mixed[:-1]))
    inner = starts[1:]
    if not len(inner):
        return wanted  # all rows are alike: nothing can be kept apart
    return int(inner[np.argmin(np.abs(inner - wanted))])
