"""From a rendered text to token ids, and to the tokens at which stretches of it begin and end.

A cut of the text is only taken where it is a cut between tokens too; elsewhere ``NoBoundary`` is
raised: no token is ever half learned. Knows a `tokenizers` tokenizer, no template and no torch.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from tokenizers import Encoding, Tokenizer, processors

ID = np.dtype("=u4")
_REMEMBERED = 4096  # stretches between a marker and a cut, most of which repeat in every row
_SHORT = 200


class NoBoundary(Exception):
    """A cut falls into a token, or the tokens before it depend on what stands behind it."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


class Coder(Protocol):
    """Turns texts into ids."""

    def code(
        self, text: str, cuts: Sequence[int], *, prefixes: bool = False
    ) -> tuple[bytes, list[int]]:
        """Return the ids (4 bytes each) and, for each cut, how many tokens stand before it.

        ``cuts`` are places in ``text``, in order. With ``prefixes`` the text up to each cut, coded
        by itself, must also give the same tokens as it has in the whole. Raises ``NoBoundary``.
        """
        ...


def prepared(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that adds nothing, cuts nothing, and tells each token's true place."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    return prepare(copy)


def prepare(tokenizer: Tokenizer) -> Tokenizer:
    """Change a tokenizer of one's own as ``prepared`` promises."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = False
    # Any other would leave blanks out of the places; it adds nothing itself.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


class Whole:
    """Codes each text in one go, for any tokenizer; ``tokenizer`` comes from ``prepare``."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._anchors = {token for token, it in added.items() if not it.single_word}
        self._known: dict[str, list[int]] = {}

    def encoding(self, text: str) -> Encoding:
        """Return all that the tokenizer says of a text."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def code(
        self, text: str, cuts: Sequence[int], *, prefixes: bool = False
    ) -> tuple[bytes, list[int]]:
        """Return ids and cuts; see ``Coder``."""
        encoding = self.encoding(text)
        ids = encoding.ids
        packed = np.array(ids, dtype=ID).tobytes()
        if not cuts:
            return packed, []
        starts = [start for start, _ in encoding.offsets]
        ends = [end for _, end in encoding.offsets]
        places: list[int] = []
        for cut in cuts:
            place = bisect_left(starts, cut)
            if place and ends[place - 1] > cut:
                raise NoBoundary(cut)
            if prefixes:
                self._check(text, cut, ids[:place], starts)
            places.append(place)
        return packed, places

    def _check(self, text: str, cut: int, before: Sequence[int], starts: Sequence[int]) -> None:
        """Raise ``NoBoundary`` unless the text up to ``cut`` has the tokens ``before`` by itself.

        An added token parts the text, so what stands before the last of them cannot change.
        """
        last = len(before) - 1
        while last >= 0 and before[last] not in self._anchors:
            last -= 1
        if last == len(before) - 1:
            return
        start = starts[last] if last >= 0 else 0
        if self._ids(text[start:cut]) != list(before[max(last, 0) :]):
            raise NoBoundary(cut)

    def _ids(self, text: str) -> list[int]:
        if (known := self._known.get(text)) is not None:
            return known
        ids = self.encoding(text).ids
        if len(text) < _SHORT and len(self._known) < _REMEMBERED:
            self._known[text] = ids
        return ids
