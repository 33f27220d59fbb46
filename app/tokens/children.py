"""Starts the trainer's short-lived helpers, which need no GPU: the only door to them from here.

A helper gets nothing of our environment that is secret. Knows command lines, not what they do.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from app.errors import AppError, Conflict, TooManyRequests

Progress = Callable[[float, str], None]
Lines = Queue[bytes | None]

_ALLOWED = frozenset({"HOME", "LANG", "PATH", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
_ALLOWED_PREFIXES = ("LC_", "PYTHON")
_OFFLINE = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_PREVIEW_SECONDS = 30.0  # the first of a model may have to convert its tokenizer
_AT_ONCE = threading.BoundedSemaphore(2)  # previews of this server
_WAIT_SECONDS = 10.0
_TICK = 0.2


class ReportFailed(AppError):
    """The tokens could not be counted; the sentence says why."""

    status = 409
    title = "The tokens could not be counted"


def preview(request: dict[str, Any]) -> dict[str, Any]:
    """Return the tokens of a row, or raise ``Conflict`` with the reason why there are none."""
    if not _AT_ONCE.acquire(timeout=_WAIT_SECONDS):
        raise TooManyRequests("Many previews are being made. Try again.", retry_after=5)
    try:
        answer = _ask(["preview"], json.dumps(request).encode())
    finally:
        _AT_ONCE.release()
    if "error" not in answer:
        return answer
    code = "template_rejects_row" if answer["kind"] == "template_mismatch" else str(answer["kind"])
    raise Conflict(f"Line {request['line']} cannot be shown: {answer['error']}.", code=code)


def _ask(words: Sequence[str], question: bytes) -> dict[str, Any]:
    child = _start(words, stdin=subprocess.PIPE)
    try:
        out, _ = child.communicate(question, timeout=_PREVIEW_SECONDS)
        if child.returncode == 0:
            return json.loads(out)
        was_killed = child.returncode < 0
    except subprocess.TimeoutExpired:
        was_killed = True
    finally:
        _end(child)
    if was_killed:
        text = "the chat template takes too much time or memory for this row"
        return {"error": text, "kind": "template_mismatch"}
    return {"error": "the preview ended without a word; see the server's log", "kind": "internal"}


def report(folder: Path, *, progress: Progress) -> dict[str, Any]:
    """Make the report that the folder's ``request.json`` asks for.

    ``progress`` gets the share that is done and a sentence, several times a second; what it raises
    ends the work. Raises ``ReportFailed`` with the reason.
    """
    child = _start(["report", str(folder)], stdin=subprocess.DEVNULL)
    lines: Lines = Queue()
    threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    try:
        _follow(lines, progress=progress)
    finally:
        _end(child)
    try:
        return json.loads((folder / "report.json").read_bytes())
    except FileNotFoundError:
        text = "The counting of tokens ended without a word, most likely for lack of memory."
        raise ReportFailed(text, code="out_of_memory") from None


def _start(words: Sequence[str], *, stdin: int) -> subprocess.Popen[bytes]:
    ours = os.environ.copy()  # noqa: TID251  # for a child
    kept = {
        name: value
        for name, value in ours.items()
        if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)
    }
    return subprocess.Popen(
        [sys.executable, "-m", "worker.trainer", *words],
        stdin=stdin,
        stdout=subprocess.PIPE,
        env=kept | _OFFLINE,
        start_new_session=True,
    )


def _read(child: subprocess.Popen[bytes], lines: Lines) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def _follow(lines: Lines, *, progress: Progress) -> None:
    done, rows = 0, 0
    while True:
        told = f"{done:,} of {rows:,} rows" if rows else "Reading the model's tokenizer"
        progress(done / rows if rows else 0.0, told)
        try:
            line = lines.get(timeout=_TICK)
        except Empty:
            continue
        if line is None:
            return
        said: Any = _parsed(line)
        if "error" in said:
            raise ReportFailed(str(said["error"]), code=str(said["kind"]))
        done, rows = said.get("done", done), said.get("total", rows)


def _parsed(line: bytes) -> dict[str, Any]:
    """Return what a line says; a library's own words say nothing to us."""
    try:
        said: Any = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a helper with all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
