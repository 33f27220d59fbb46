"""Which rows of raw JSON may hold what is suspicious in a text, for many rows at once. Pure.

A sieve before the exact look (``formats.text``): it passes over nothing that would be found there,
and what it names is only worth that look. All that is looked for is found in one pass by Hyperscan;
where it is not installed every row is named. Knows bytes, no rows and no paths.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from app.datasets.formats.secrets import FORMS
from app.datasets.formats.text import TOKENS

try:
    import hyperscan as _scanner
except ImportError:  # there is no wheel for every machine
    _scanner = None
hyperscan: Any = _scanner

# An escape that spells a control, a slash, or a character that needs none: it may hide the rest.
_ESCAPES = rb"[^\\](?:\\\\)*\\(?:[bf/]|u00[0-7])"
_HIDDEN_TOKENS = rb"[<\[]\\u"
_BLOCK = rb"-----BEGIN"
_PHONES = rb"\+[0-9](?:[ ()./-]{0,3}[0-9]){8}", rb"\([0-9]{3}\) ?[0-9]{3}[-. ][0-9]{4}"
_CARD = rb"(?:[0-9][ -]?){13}"
_AT = rb"@"  # of an address; the rest is looked at where there is one
_ADDRESS = re.compile(rb"[A-Za-z0-9._%+-]@[A-Za-z0-9-]{1,63}\.[A-Za-z0-9-]")
# What a form begins with before its first letter or sign: it is found faster by what follows.
_VAGUE = re.compile(r"^(?:(?:\[[^\]]+\]|\\d)(?:\{[\d,]+\})?)+")
_MANY = 100_000  # places in a block from which on all of its rows are named


def _patterns() -> Iterator[bytes]:
    """Yield what is looked for; the address's sign comes first."""
    yield _AT
    yield _ESCAPES
    yield _HIDDEN_TOKENS
    for token in (*TOKENS, "<|reserved_special_token_"):
        # What is not ASCII may be written as an escape: the part before the next such is enough.
        whole = token.isascii()
        yield re.escape(token if whole else token[:2]).encode()
    for form in FORMS:
        # The shortest key is enough, and it is found faster; a length within a key stays free.
        yield re.sub(r"\]\{(\d+),\d+\}$", r"]{\1}", _VAGUE.sub("", form)).encode()
    yield from (_BLOCK, *_PHONES, _CARD)


@cache
def _sieve() -> Any:
    """Return all patterns, compiled: some 0.2 seconds once a process."""
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    patterns = list(_patterns())
    database.compile(expressions=patterns, ids=list(range(len(patterns))))
    return database


def prepare() -> None:
    """Make what is needed to look, before this process is divided."""
    if hyperscan is not None:
        _sieve()


def rows_with_signs(block: memoryview | bytes, starts: npt.NDArray[np.int64]) -> frozenset[int]:
    """Return which rows of ``block`` need a look at their text; ``starts`` are their offsets."""
    if hyperscan is None:
        return frozenset(range(len(starts)))
    ends: list[int] = []

    def found(pattern: int, _start: int, end: int, _flags: int, _context: object) -> bool:
        if pattern or _ADDRESS.match(block, end - 2):
            ends.append(end)
        return len(ends) > _MANY

    try:
        _sieve().scan(block, match_event_handler=found)
    except hyperscan.ScanTerminated:
        return frozenset(range(len(starts)))
    if not ends:
        return frozenset()
    rows = np.searchsorted(starts, np.array(ends) - 1, side="right") - 1
    return frozenset(rows.tolist())
