"""From a rendered text to token ids, and to the tokens at which stretches of it begin and end.

A cut of the text is only taken where it is a cut between tokens too; elsewhere it is said that it
is none: no token is ever half learned. Knows a `tokenizers` tokenizer, no template and no torch.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple, Protocol

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


class Asked(NamedTuple):
    """A text to code, and the places in it, in order, whose places among the tokens are asked.

    With ``prefixes`` the text up to each cut, coded by itself, must also give the same tokens as it
    has in the whole.
    """

    text: str
    cuts: Sequence[int] = ()
    prefixes: bool = False


# The ids, 4 bytes each, and how many tokens stand before each cut; or that a cut is none.
Found = tuple[bytes, list[int]] | NoBoundary


class Coder(Protocol):
    """Turns texts into ids."""

    def code_all(self, asked: Sequence[Asked]) -> list[Found]:
        """Return ids and cuts of each text, in order."""
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

    def code_all(self, asked: Sequence[Asked]) -> list[Found]:
        """Return ids and cuts of each text; see ``Coder``."""
        return [self._coded(*one) for one in asked]

    def ids(self, text: str) -> bytes:
        """Return the ids of a text."""
        return np.array(self.encoding(text).ids, dtype=ID).tobytes()

    def _coded(self, text: str, cuts: Sequence[int], prefixes: bool) -> Found:  # noqa: FBT001
        encoding = self.encoding(text)
        ids = encoding.ids
        starts = [start for start, _ in encoding.offsets] if cuts else []
        ends = [end for _, end in encoding.offsets] if cuts else []
        places: list[int] = []
        for cut in cuts:
            place = bisect_left(starts, cut)
            is_within = place > 0 and ends[place - 1] > cut
            if is_within or (prefixes and not self._is_same(text, cut, ids[:place], starts)):
                return NoBoundary(cut)
            places.append(place)
        return np.array(ids, dtype=ID).tobytes(), places

    def _is_same(self, text: str, cut: int, before: Sequence[int], starts: Sequence[int]) -> bool:
        """Tell whether the text up to ``cut`` has the tokens ``before`` by itself too.

        An added token parts the text, so what stands before the last of them cannot change.
        """
        last = len(before) - 1
        while last >= 0 and before[last] not in self._anchors:
            last -= 1
        if last == len(before) - 1:
            return True
        start = starts[last] if last >= 0 else 0
        return self._ids(text[start:cut]) == list(before[max(last, 0) :])

    def _ids(self, text: str) -> list[int]:
        if (known := self._known.get(text)) is not None:
            return known
        ids = self.encoding(text).ids
        if len(text) < _SHORT and len(self._known) < _REMEMBERED:
            self._known[text] = ids
        return ids
