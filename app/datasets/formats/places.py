"""What a place within a row is called in a sentence. Pure; knows paths, not values."""

from app.datasets.formats.base import Path, shortened

# Columns that are the conversation: their turns are simply turns.
_CONVERSATIONS = frozenset({"messages", "conversations", "conversation"})
_TEXTS = frozenset(
    [
        "prompt",
        "completion",
        "chosen",
        "rejected",
        "instruction",
        "input",
        "output",
        "system",
    ]
)


def named(path: Path) -> str:
    """Return what a reader calls the turn or the column that ``path`` leads to or into."""
    column = path[0] if path else None
    number = path[1] if len(path) > 1 else None
    if not isinstance(number, int):
        return f"the {column}" if column in _TEXTS else f"the key {shortened(column)}"
    if column in _CONVERSATIONS:
        return f"turn {number + 1}"
    if column == "history":
        return _round(path, number)
    return f"turn {number + 1} of {column}" if column in _TEXTS else f"the key {shortened(column)}"


def _round(path: Path, number: int) -> str:
    sides: dict[str | int, str] = {0: "the question of ", 1: "the answer of "}
    who = "".join(sides.get(step, "") for step in path[2:3])
    return f"{who}round {number + 1} of the history"


def both(one: Path, other: Path) -> str:
    """Return what two places are called together."""
    if len(one) > 1 and one[0] == other[0] and one[0] in _CONVERSATIONS:
        return f"turns {int(one[1]) + 1} and {int(other[1]) + 1}"
    return f"{named(one)} and {named(other)}"
