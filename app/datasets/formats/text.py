"""What may be wrong with the text of a row, whatever its format. Pure."""

import re
from collections import Counter
from collections.abc import Iterator

from app.datasets.formats.base import Finding, Path, Row, strings
from app.datasets.formats.personal import SHOWN_CHARACTERS as SHOWN_OF_PERSONAL
from app.datasets.formats.personal import each_personal
from app.datasets.formats.places import named
from app.datasets.formats.secrets import SHORTEST_SECRET, SHOWN_CHARACTERS, find_secrets
from app.datasets.problems import Code

# These are stored beside the conversation and never trained.
UNTRAINED = frozenset({"id", "source", "language", "metadata", "name"})

TOKENS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|endoftext|>",
    "<|endofprompt|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|return|>",
    "<|call|>",
    "<|constrain|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<|end_of_turn|>",
    "<|tool_call|>",
    "<|tool_response|>",
    "<|observation|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
    "<|header_start|>",
    "<|header_end|>",
    "<|eot|>",
    "<|eom|>",
    "<|finetune_right_pad_id|>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<s>",
    "</s>",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CONTENT]",
    "[/TOOL_CONTENT]",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<BOS_TOKEN>",
    "<EOS_TOKEN>",
    "<EOP_TOKEN>",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "[gMASK]",
]
_SPECIAL = re.compile("|".join(map(re.escape, TOKENS)) + r"|<\|reserved_special_token_\d{1,3}\|>")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")

# Raw JSON spells control characters as one of these.
_ESCAPES = (b"\\u", b"\\b", b"\\f")


def may_hold_controls(line: bytes) -> bool:
    """Tell whether a raw line of valid JSON may hold control characters; cheap."""
    return b"\\" in line and any(escape in line for escape in _ESCAPES)


def text_findings(row: Row, *, controls: bool = True) -> Iterator[Finding]:
    """Yield what is suspicious in the strings of ``row``: one finding a string and code.

    ``controls`` is False where the raw line cannot hold any.
    """
    for path, text in strings(row):
        if path[:1] and path[0] not in UNTRAINED:
            if controls:
                yield from _control(path, text)
            if "<" in text or "[" in text:
                yield from _special(path, text)
            yield from _personal(path, text)
        if len(text) >= SHORTEST_SECRET:
            yield from _secrets(path, text)


def _more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""


def _control(path: Path, text: str) -> Iterator[Finding]:
    found = _CONTROL.findall(text)
    if found:
        message = f"{named(path)} contains U+{ord(found[0]):04X}{_more(len(found))}"
        yield Finding(Code.CONTROL_CHARACTERS, message, path, found[0])


def _special(path: Path, text: str) -> Iterator[Finding]:
    first = _SPECIAL.search(text)
    if first:
        token, count = first.group(), sum(1 for _ in _SPECIAL.finditer(text, first.start()))
        message = f"{named(path)} contains {token}{_more(count)}"
        yield Finding(Code.SPECIAL_TOKEN_IN_TEXT, message, path, token)


def _secrets(path: Path, text: str) -> Iterator[Finding]:
    for kind, secret in find_secrets(text):
        shown = "" if secret.startswith("-----") else f", {secret[:SHOWN_CHARACTERS]}…"
        message = f"{named(path)} seems to hold a secret: {kind}{shown}"
        yield Finding(Code.POSSIBLE_SECRET, message, path, secret)


def _personal(path: Path, text: str) -> Iterator[Finding]:
    """Yield one finding for each kind of personal data; no value is told whole."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for one in each_personal(text):
        counts[one.kind] += 1
        first.setdefault(one.kind, text[one.start : one.end])
    for kind, value in first.items():
        what = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}, {value[:SHOWN_OF_PERSONAL]}…"
        message = f"{named(path)} contains {what}{_more(counts[kind])}"
        yield Finding(Code.PERSONAL_DATA, message, path, value)
