"""Which hashes have come along: 16 bytes each in a table of fixed places. Pure."""

from array import array

_LOAD = 0.7
_SMALLEST = 1024


class Seen:
    """A set of 128-bit hashes that takes 24 to 50 bytes of memory each."""

    def __init__(self, expected: int) -> None:
        """Make room for ``expected`` hashes; it grows if there are more."""
        size = _SMALLEST
        while size * _LOAD < expected:
            size *= 2
        self._make(size)

    def _make(self, size: int) -> None:
        self._low, self._high = array("Q", bytes(8 * size)), array("Q", bytes(8 * size))
        self._mask, self._count = size - 1, 0

    def add(self, digest: bytes) -> bool:
        """Take a hash that is not zero; tell whether it was there already."""
        low, high = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
        place = self._place(low, high)
        if self._low[place] or self._high[place]:
            return True
        self._low[place], self._high[place] = low, high
        self._count += 1
        if self._count > (self._mask + 1) * _LOAD:
            self._grow()
        return False

    def _place(self, low: int, high: int) -> int:
        """Return where a hash stands, or the empty place where it belongs."""
        place = low & self._mask
        while (self._low[place] or self._high[place]) and (
            self._low[place] != low or self._high[place] != high
        ):
            place = (place + 1) & self._mask
        return place

    def _grow(self) -> None:
        lows, highs, count = self._low, self._high, self._count
        self._make(2 * len(lows))
        self._count = count
        for low, high in zip(lows, highs, strict=True):
            if low or high:
                place = self._place(low, high)
                self._low[place], self._high[place] = low, high
