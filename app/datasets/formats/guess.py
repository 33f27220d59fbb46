"""What a row in a format that is not taken seems to be, by its keys. Pure."""

from app.datasets.formats.base import Row


def seems_to_be(row: Row) -> str | None:
    """Return the title of another known format that ``row`` seems to be in, or None."""
    keys = row.keys()
    if "chosen" in keys or "rejected" in keys:
        return "preference pairs (chosen, rejected)"
    if "conversations" in keys or "conversation" in keys:
        return "ShareGPT (conversations)"
    if "instruction" in keys and keys & {"output", "response", "input"}:
        return "Alpaca (instruction, input, output)"
    if "prompt" in keys and keys & {"completion", "response"}:
        return "prompt and completion"
    return None
