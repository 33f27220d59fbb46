"""The tokens of one row, as they are trained: ``python -m worker.trainer preview``.

Reads a request as JSON from standard input and writes the tokens, or the reason of a refusal, to
standard output. A template is a stranger's program: once the model is read, memory and computing
time are bounded. Needs no GPU, no torch and no database.
"""

import json
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from app.jobs.state import FailureKind
from worker.trainer import canonical, masks
from worker.trainer.chat import Chat
from worker.trainer.coding import Asked, Found, Whole
from worker.trainer.data import example_of
from worker.trainer.failures import TrainerError, classify
from worker.trainer.templates import TemplateRejects

MOST_TOKENS = 20_000  # that are shown
_MEMORY = 2**30  # bytes that rendering and coding one row may take
_SECONDS = 10  # of computing


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of a file, and whose tokens it is shown in."""

    base_model_folder: str
    row: str
    line: int
    format: str = "messages"
    mapping: dict[str, str] | None = None
    cache_folder: str | None = None
    max_length: int | None = None


def main() -> int:
    """Answer the request on standard input; the exit code is 0 for a refusal too."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        answer = preview(request)
    except TemplateRejects as error:
        answer = {"error": str(error), "kind": FailureKind.TEMPLATE_MISMATCH.value}
    except Exception as error:
        named = isinstance(error, TrainerError)
        text = str(error) if named else f"{type(error).__name__}: {error}"
        answer = {"error": text, "kind": classify(error).value}
    sys.stdout.write(json.dumps(answer))
    return 0


def preview(request: Request) -> dict[str, Any]:
    """Return a row's tokens; raise ``TemplateRejects`` or ``TrainerError`` with the reason."""
    cache = Path(request.cache_folder) if request.cache_folder else None
    chat = canonical.read(Path(request.base_model_folder), cache=cache)
    example = example_of(
        request.row.encode(), line=request.line, form=request.format, mapping=request.mapping
    )
    _bound()
    text = _Text(chat.tokenizer)
    coded = masks.code(chat, example.messages, example.tools, assistant_only=True, coder=text)
    trained = np.frombuffer(coded.trained, dtype=np.bool_).tolist()
    added = chat.tokenizer.get_added_tokens_decoder()
    most = request.max_length
    tokens = [
        {"id": token, "text": shown, "trained": learned, "special": token in added}
        | ({"cut": place >= most} if most is not None else {})
        for place, (token, shown, learned) in enumerate(
            zip(text.ids_, texts(chat, text.text, text.ids_, text.offsets), trained, strict=True)
        )
    ]
    kept = trained[:most]
    return {
        "tokens": tokens[:MOST_TOKENS],
        "trained": sum(kept),
        "total": len(kept),
        "uncut": len(tokens),
    }


class _Text(Whole):
    """Codes one text, and remembers it and where its tokens lie in it."""

    text = ""
    ids_: Sequence[int] = ()
    offsets: Sequence[tuple[int, int]] = ()

    def code_all(self, asked: Sequence[Asked]) -> list[Found]:
        """Return ids and cuts; see ``coding.Coder``."""
        (one,) = asked
        encoding = self.encoding(one.text)
        self.text, self.ids_, self.offsets = one.text, encoding.ids, encoding.offsets
        return super().code_all(asked)


def texts(
    chat: Chat, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> list[str]:
    """Return what each token stands for in the text; of part of a character its bytes."""
    shared = {one for one, following in pairwise(offsets) if one == following}
    return [
        _bytes_of(chat, token) if (start, end) in shared or start == end else text[start:end]
        for token, (start, end) in zip(ids, offsets, strict=True)
    ]


def _bytes_of(chat: Chat, token: int) -> str:
    """Return a token of part of a character as its bytes, like ``<0xF0><0x9F>``."""
    written = chat.tokenizer.id_to_token(token) or ""
    known = [_BYTES.get(char) for char in written]
    if not known or None in known:
        return written.replace("▁", " ")
    return "".join(f"<0x{byte:02X}>" for byte in known)


def _byte_alphabet() -> dict[str, int]:
    """Return the letters in which byte-level tokenizers write bytes (as GPT-2 began it)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_BYTES = _byte_alphabet()


def _bound() -> None:
    """Bound what comes now: a template that takes more is refused, or this process is ended."""
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
    with suppress(OSError, ValueError):  # where there is no /proc there is no such bound
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
