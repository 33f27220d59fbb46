"""Whether a word is another one, written differently or with one slip of the fingers. Pure."""

_SHORTEST_SLIP = 5  # letters; shorter words are too near to each other


def plain(word: str) -> str:
    """Return a word without capitals, spaces, dashes and underscores."""
    return "".join(char for char in word.lower() if char.isalnum())


def means(word: str, meant: str) -> bool:
    """Tell whether ``word`` is ``meant`` but for its form, or for one letter in a longer word."""
    word, meant = plain(word), plain(meant)
    if word == meant:
        return True
    if len(meant) < _SHORTEST_SLIP or not word:
        return False
    if len(word) == len(meant):
        return _one_changed(word, meant) or _two_swapped(word, meant)
    longer, shorter = sorted((word, meant), key=len, reverse=True)
    return any(longer[:at] + longer[at + 1 :] == shorter for at in range(len(longer)))


def _one_changed(one: str, other: str) -> bool:
    return sum(mine != theirs for mine, theirs in zip(one, other, strict=True)) == 1


def _two_swapped(one: str, other: str) -> bool:
    return any(
        one[:at] + one[at + 1] + one[at] + one[at + 2 :] == other for at in range(len(one) - 1)
    )
