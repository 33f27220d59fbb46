"""A quick look at a row of ``messages``: most can have nothing wrong, and need no other. Pure.

Says yes only where the full look (``formats``) would find nothing; all else is for that to say. The
rules are not written down again: how roles may follow each other is asked of the format, with
turns that are good by themselves, once for each order of roles that comes along.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgspec
import xxhash

from app.datasets.formats.columns import known_keys
from app.datasets.formats.conversation import SHORT_ANSWER_CHARACTERS
from app.datasets.formats.messages import MESSAGES
from app.datasets.statistics import codes_of

Roles = tuple[Any, ...]
_KNOWN = known_keys(MESSAGES.columns)
_REMEMBERED = 10_000  # orders of roles
_PLAIN = "A good text, which is long enough."
_encode = msgspec.json.Encoder(order="deterministic").encode
_pack = msgspec.msgpack.Encoder().encode  # need not look for what JSON would escape
_digest = xxhash.xxh3_128_digest
_roles_of, _texts_of = itemgetter("role"), itemgetter("content")


@dataclass(frozen=True, slots=True)
class Order:
    """The roles of a conversation: whether they may follow each other, as statistics count them."""

    is_good: bool
    codes: bytes
    prefix: bytes | None  # tells this order from others in a row's hash; None if it is none


class _Orders(dict[Roles, Order]):
    """What is known of each order of roles that was asked for."""

    def __missing__(self, roles: Roles) -> Order:
        if len(self) >= _REMEMBERED:
            self.clear()
        found = self[roles] = _order(roles)
        return found


def _order(roles: Roles) -> Order:
    if not roles or any(type(role) is not str for role in roles):
        return Order(is_good=False, codes=b"", prefix=None)
    row = {"messages": [{"role": role, "content": _PLAIN} for role in roles]}
    codes = codes_of(tuple(turn.role for turn in MESSAGES.turns(row)))
    return Order(not MESSAGES.findings(row), codes, _encode(roles))


_orders = _Orders()


def hash_of(row: dict[str, Any], data: bytes) -> bytes:
    """Return 128 bits over a row, whatever the order of its keys; ``data`` is how it is written."""
    try:
        messages = row["messages"]
        order = _orders[tuple(map(_roles_of, messages))]
        texts = list(map(_texts_of, messages))
        if is_plain(row, messages, order) and all(type(text) is str for text in texts):
            return hash_of_texts(order, texts)
    except (KeyError, TypeError):
        pass
    try:
        return _digest(_encode(row))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return _digest(data)


def is_plain(row: dict[str, Any], messages: Sequence[Any], order: Order) -> bool:
    """Tell whether a row has nothing but roles and contents, which all turns are known to have."""
    return (
        len(row) == 1 and order.prefix is not None and sum(map(len, messages)) == 2 * len(messages)
    )


def hash_of_texts(order: Order, texts: Sequence[str]) -> bytes:
    """Return 128 bits over turns that have a role and a text only."""
    return _digest((order.prefix or b"") + _pack(texts))


def glance(row: Any) -> tuple[Order, list[str], bool] | None:
    """Return the roles and texts of a row in which nothing but its texts' signs can be wrong.

    The last value tells whether it is plain, as for ``is_plain``. None means: look at all of it.
    """
    try:
        messages = row["messages"]
        order = _orders[tuple(map(_roles_of, messages))]
        texts = list(map(_texts_of, messages))
        bare = list(map(str.strip, texts))
    except (KeyError, TypeError):
        return None
    if not order.is_good or "" in bare or len(bare[-1]) < SHORT_ANSWER_CHARACTERS:
        return None
    if sum(map(len, messages)) != 2 * len(texts):
        return None
    if len(row) == 1:
        return order, texts, True
    return (order, texts, False) if row.keys() <= _KNOWN else None
