"""A quick look at many rows of ``messages`` at once: most need no other. Pure.

Says "good" only where the full look (``formats``) would find nothing in how a row is made; its text
is ``signs``' matter. Rows are decoded into a type that takes only what may be right, and looked at
column by column. The rules are not written down again: how roles may follow each other is asked of
the format, with turns that are good by themselves, once for each order of roles that comes along.
"""

from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from app.datasets.formats.columns import known_keys
from app.datasets.formats.conversation import SHORT_ANSWER_CHARACTERS
from app.datasets.formats.messages import MESSAGES
from app.datasets.formats.wording import OPENAI
from app.datasets.statistics import codes_of

Numbers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
_OPENING, _CLOSING = b"{}"


class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str  # fields stand in the order in which a normalised row has its keys
    role: str


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Turn]


# A row with any of the columns that are never reported, in the order of normalised keys.
_FREE = sorted(known_keys(MESSAGES.columns) - {"messages"})
_WideRow = msgspec.defstruct(
    "_WideRow",
    [
        ("messages", list[_Turn]) if name == "messages" else (name, Any, msgspec.UNSET)
        for name in sorted([*_FREE, "messages"])
    ],
    forbid_unknown_fields=True,
    kw_only=True,
)
_ROLES = tuple(OPENAI.roles)
_UNKNOWN = len(_ROLES)
_CODES = codes_of(tuple(OPENAI.roles.values())).ljust(256)
_GOOD_TEXT = "A good text, which is long enough."
_BASE = np.int64(_UNKNOWN + 2)  # of numbers whose digits are the roles of a row
_DIGITS = 20
_CACHED = 2**17  # bytes that are looked at in one go, with what is made of them
_REMEMBERED, _LONGEST = 10_000, 500  # orders of roles, and the turns of one
_BROKEN = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)

_row, _wide_row = msgspec.json.Decoder(_Row), msgspec.json.Decoder(_WideRow)
_packer = msgspec.msgpack.Encoder(order="deterministic")
_pack, _pack_into = _packer.encode, _packer.encode_into
_digest = xxhash.xxh3_128_digest
_messages_of = attrgetter("messages")
_content_of, _role_of = attrgetter("content"), attrgetter("role")
_end_of = itemgetter(-1)


def hash_of(row: Any, data: bytes) -> bytes:
    """Return 128 bits over a row, whatever the order of its keys; ``data`` is how it is written."""
    try:
        return _digest(_pack(row))
    except _BROKEN:
        return _digest(data)


@dataclass(frozen=True, slots=True)
class Glance:
    """What was seen of some lines: which are good rows, and of those what statistics count.

    ``hashes`` has 16 bytes a line. ``codes`` and ``lengths`` have one number for each turn of the
    good rows, ``turns`` one for each good row.
    """

    is_good: Flags
    hashes: Bytes
    codes: Bytes
    lengths: Numbers
    turns: Numbers
    columns: dict[str, int]


class _Roles(dict[str, int]):
    """The numbers of the known roles, and one for all others."""

    def __missing__(self, role: str) -> int:
        return _UNKNOWN


_NUMBERS = _Roles({role: number for number, role in enumerate(_ROLES)})


class Glancing:
    """Looks at lines, a cacheful at a time, and puts together what was seen of all of them."""

    def __init__(self, data: memoryview | bytes, starts: Numbers, ends: Numbers) -> None:
        """Begin with some lines of ``data``, by where they start and end without their endings."""
        self._data, self._starts, self._ends = data, starts, ends
        self._places: list[Numbers] = []
        self._hashes: list[bytes] = []
        self._roles = bytearray()
        self._turns, self._lengths, self._last = array("q"), array("q"), array("q")
        self._blank: set[int] = set()  # lines of rows with a turn that has only white space
        self._packed = bytearray()
        self._columns: dict[str, list[Numbers]] = {}  # name → lines of the rows that have it

    def look(self) -> None:
        """Look at all lines."""
        edges = np.arange(0, int(self._ends[-1]) + 1, _CACHED)
        cuts = np.append(np.searchsorted(self._starts, edges), len(self._starts))
        codes = np.frombuffer(self._data, dtype=np.uint8)
        # Where every line is in braces no row can go on behind its end, so a row a line it is.
        braced = codes[self._starts] == _OPENING
        braced &= codes[self._ends - 1] == _CLOSING
        for first, end in pairwise(dict.fromkeys(cuts.tolist())):
            self._take(*self._decoded(first, end, in_braces=bool(braced[first:end].all())))

    def _decoded(self, first: int, end: int, *, in_braces: bool) -> tuple[list[Any], Numbers]:
        """Return those rows of some lines that may be good, and which lines they are."""
        starts, ends = self._starts[first:end].tolist(), self._ends[first:end].tolist()
        if in_braces:
            block = self._data[starts[0] : ends[-1]]
            for decoder in (_row, _wide_row):
                with suppress(*_BROKEN):
                    rows = decoder.decode_lines(block)
                    if len(rows) == end - first:
                        return rows, np.arange(first, end)
        rows, places = [], []
        for at, (start, stop) in enumerate(zip(starts, ends, strict=True), start=first):
            with suppress(*_BROKEN):
                rows.append(_wide_row.decode(self._data[start:stop]))
                places.append(at)
        return rows, np.array(places, dtype=np.int64)

    def _take(self, rows: list[Any], places: Numbers) -> None:
        """Note what is asked of rows, which then need not be kept."""
        messages = list(map(_messages_of, rows))
        every = list(chain.from_iterable(messages))
        texts = list(map(_content_of, every))
        self._turns.extend(map(len, messages))
        self._roles += bytes(map(_NUMBERS.__getitem__, map(_role_of, every)))
        self._lengths.extend(map(len, texts))
        if all(messages):
            self._last.extend(map(len, map(str.strip, map(_content_of, map(_end_of, messages)))))
        else:
            ends = (turns[-1].content if turns else "" for turns in messages)
            self._last.extend(len(text.strip()) for text in ends)
        if "" in texts or any(map(str.isspace, texts)):
            self._blank.update(
                place
                for turns, place in zip(messages, places.tolist(), strict=True)
                if any(not turn.content.strip() for turn in turns)
            )
        self._hashes += self._hashed(rows, places)
        self._places.append(places)
        if rows and type(rows[0]) is _WideRow:
            self._see_columns(rows, places)

    def _see_columns(self, rows: list[Any], places: Numbers) -> None:
        for name in _FREE:
            present = [value is not msgspec.UNSET for value in map(attrgetter(name), rows)]
            if any(present):
                self._columns.setdefault(name, []).append(places[present])

    def _hashed(self, rows: list[Any], places: Numbers) -> list[bytes]:
        with suppress(*_BROKEN):
            found: list[bytes] = []
            for row in rows:
                _pack_into(row, self._packed)
                found.append(_digest(self._packed))
            return found
        spans = zip(self._starts[places].tolist(), self._ends[places].tolist(), strict=True)
        return [
            hash_of(row, bytes(self._data[start:end]))
            for row, (start, end) in zip(rows, spans, strict=True)
        ]

    def seen(self, but_not: Sequence[int]) -> Glance:
        """Return what was seen of all lines; some are known not to be good."""
        places = np.concatenate(self._places)
        turns = _numbers(self._turns)
        ends = np.cumsum(turns)
        of_row = np.repeat(np.arange(len(turns)), turns)
        good = _in_order(bytes(self._roles), ends - turns, ends)
        good &= _numbers(self._last) >= SHORT_ANSWER_CHARACTERS
        if but_not or self._blank:
            good[np.isin(places, [*but_not, *self._blank])] = False
        kept = good[of_row]
        is_good = np.zeros(len(self._starts), dtype=np.bool_)
        is_good[places[good]] = True
        hashes = np.zeros((len(self._starts), 16), dtype=np.uint8)
        hashes[places] = np.frombuffer(b"".join(self._hashes), dtype=np.uint8).reshape(-1, 16)
        codes = np.frombuffer(bytes(self._roles).translate(_CODES), dtype=np.uint8)
        return Glance(
            is_good,
            hashes,
            codes[kept],
            _numbers(self._lengths)[kept],
            turns[good],
            self._counted(is_good),
        )

    def _counted(self, is_good: Flags) -> dict[str, int]:
        """Return how many of the good rows have which column."""
        counts = {
            name: int(is_good[np.concatenate(places)].sum())
            for name, places in self._columns.items()
        }
        counts["messages"] = int(is_good.sum())
        return {name: count for name, count in counts.items() if count}


def _numbers(values: "array[int]") -> Numbers:
    return np.frombuffer(values.tobytes(), dtype=np.int64)


def _in_order(roles: bytes, starts: Numbers, ends: Numbers) -> Flags:
    """Tell of each row, whose roles lie between these places, whether they may follow so.

    Each order is asked for once: its roles are the digits of a number, where they fit.
    """
    counts = ends - starts
    good = np.zeros(len(counts), dtype=np.bool_)
    short = (counts > 0) & (counts <= _DIGITS)
    digits = np.frombuffer(roles, dtype=np.uint8)[np.repeat(short, counts)] + 1
    within = counts[short]
    begins = np.cumsum(within) - within
    place = np.arange(len(digits)) - np.repeat(begins, within)
    if len(digits):
        orders = np.add.reduceat(digits * _BASE**place, begins).tolist()
        good[short] = list(map(_ORDERS.__getitem__, orders))
    for at in np.flatnonzero(counts > _DIGITS).tolist():
        good[at] = _is_good(roles[starts[at] : ends[at]])
    return good


class _Orders(dict[int, bool]):
    """Whether the roles that are a number's digits, the first one last, may follow each other."""

    def __missing__(self, order: int) -> bool:
        if len(self) >= _REMEMBERED:
            self.clear()
        roles, left = bytearray(), order
        while left:
            left, digit = divmod(left, int(_BASE))
            roles.append(digit - 1)
        self[order] = good = _is_good(bytes(roles))
        return good


_ORDERS = _Orders()


@lru_cache(_REMEMBERED)
def _is_good(roles: bytes) -> bool:
    if _UNKNOWN in roles or len(roles) > _LONGEST:
        return False
    turns = [{"role": _ROLES[number], "content": _GOOD_TEXT} for number in roles]
    return not MESSAGES.findings({"messages": turns})
