"""Where raw bytes may hold a key or personal data: a sieve before the exact look. Pure.

Made for blocks of many rows at once (64 KiB and more: some 0.6 ns a byte; a single row costs 20 µs
whatever its size). It passes over nothing that ``secrets`` or ``personal`` would find in the text
of a row; what it names is only worth a look. Knows bytes, no JSON.
"""

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]

_AROUND = 40  # bytes looked at on both sides of four digits
_FOUR = np.uint32(0x01010101)  # four bytes that are true
_NEIGHBOURS = np.arange(-4, 5)
_SHORTEST_CARD = 13
_ZERO, _TEN = np.uint8(48), np.uint8(10)
_OPENING, _KINDS_OF_OPENING = np.uint8(40), np.uint8(4)  # ( ) * +
_LAST_SEPARATOR = np.int8(42)  # an asterisk; what comes behind it, below 128, may be of a key
_LONG_WORD = re.compile(rb"[A-Za-z0-9_+/=.:\\-]{20}|KEY-----")
_ADDRESS = re.compile(rb"[A-Za-z0-9]@[A-Za-z0-9-]+\.[A-Za-z]")
_NUMBER = re.compile(rb"[0-9](?:[ -]{0,2}[0-9]){12}")
_CALLABLE = re.compile(rb"\+[0-9](?:[ ()./-]{0,3}[0-9]){6}|\([0-9]{3}\)[ -]?[0-9]{3}[ .-][0-9]{4}")


def suspects(block: bytes) -> list[int]:
    """Return, in order, the offsets in ``block`` at which rows are worth a look.

    A key or number that spans the end of ``block`` may be missed: end it where a row ends.
    """
    # An end of blanks, so that words of four at the very end are whole and all shifts are legal.
    padded = block + b" " * (8 - len(block) % 4)
    codes = np.frombuffer(padded, np.uint8)
    digits = np.less(codes - _ZERO, _TEN)
    return sorted({*_keys(padded, codes), *_numbers(padded, codes, digits), *_addresses(padded)})


def may_hold_secret(data: bytes) -> bool:
    """Tell whether ``data`` may hold a key."""
    padded = data + b" " * (8 - len(data) % 4)
    return any(True for _ in _keys(padded, np.frombuffer(padded, np.uint8)))


def may_hold_personal(data: bytes) -> bool:
    """Tell whether ``data`` may hold an address, a phone or a card number."""
    padded = data + b" " * (8 - len(data) % 4)
    codes = np.frombuffer(padded, np.uint8)
    found = _numbers(padded, codes, np.less(codes - _ZERO, _TEN))
    return any(True for _ in _addresses(padded)) or any(True for _ in found)


def _keys(data: bytes, codes: npt.NDArray[np.uint8]) -> Iterator[int]:
    """Yield the starts of long words: four aligned groups of four without a blank or quote.

    Each run of 19 such bytes covers four; no key is shorter.
    """
    fours = np.greater(codes.view(np.int8), _LAST_SEPARATOR).view(np.uint32) == _FOUR
    twice = fours[:-1] & fours[1:]
    places = np.flatnonzero(twice[:-2] & twice[2:])
    if not len(places):
        return
    starts = np.flatnonzero(np.diff(places, prepend=-9) > 1)
    ends = [*starts[1:], len(places)]
    for start, end in zip(starts, ends, strict=True):
        low, high = int(places[start]) * 4, int(places[end - 1]) * 4 + 16
        if _LONG_WORD.search(data, max(0, low - 4), high + 8):
            yield low


def _numbers(data: bytes, codes: npt.NDArray[np.uint8], digits: Bools) -> Iterator[int]:
    """Yield where numbers of cards and phones may stand.

    A card's number covers four aligned digits, however it is grouped; a phone's begins with a plus
    or with a bracket.
    """
    for place in _crowded(digits.view(np.uint32)):
        at = int(place) * 4
        if _NUMBER.search(data, max(0, at - _AROUND), at + _AROUND):
            yield at
    opening = np.less(codes - _OPENING, _KINDS_OF_OPENING)
    for place in np.flatnonzero(opening[:-1] & digits[1:]):
        if _CALLABLE.match(data, int(place)):
            yield int(place)


def _crowded(fours: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """Return the places of four digits that have enough of them around to make a card's number."""
    places = np.flatnonzero(fours == _FOUR)
    around = np.clip(places[:, None] + _NEIGHBOURS, 0, len(fours) - 1)
    return places[np.bitwise_count(fours[around]).sum(axis=1) >= _SHORTEST_CARD]


def _addresses(data: bytes) -> Iterator[int]:
    at = data.find(b"@")
    while at >= 0:
        if _ADDRESS.match(data, at - 1):
            yield at
        at = data.find(b"@", at + 1)
