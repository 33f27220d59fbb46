"""``events.jsonl``: what the trainer tells, one JSON object a line, in the order it happened.

The file outlives the process: a later attempt goes on with the next ``seq``. Knows neither
database nor network; whoever tails the file decides what becomes of a line.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.jobs.events import EventType
from app.jobs.state import FailureKind
from app.kit.clock import utc_now

FILE_NAME = "events.jsonl"
_TAIL = 1 << 20  # no event is longer than this


class Emitter:
    """Appends events to the folder's ``events.jsonl``; each line is flushed at once."""

    def __init__(self, folder: Path) -> None:
        path = folder / FILE_NAME
        self.seq = cut_torn_line(path)
        self.goes_on = self.seq > 0  # an earlier attempt wrote before us
        self._file = path.open("ab", buffering=0)

    def emit(self, type_: EventType, values: Mapping[str, Any], *, step: int | None = None) -> None:
        """Append one event; a number that is not finite becomes null."""
        self.seq += 1
        line = {
            "seq": self.seq,
            "type": type_.value,
            "at": utc_now().isoformat(),
            "step": step,
            "values": finite(values),
        }
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")

    def phase(self, phase: str, *, step: int | None = None, **values: Any) -> None:
        """Say what begins now: loading, preparing, training, evaluating, saving, resumed."""
        self.emit(EventType.PHASE, {"phase": phase, **values}, step=step)

    def metrics(self, values: Mapping[str, float | None], *, step: int) -> None:
        """Tell the figures of a training step, by API.md's names."""
        self.emit(EventType.METRICS, values, step=step)

    def log(self, text: str, *, level: str = "info") -> None:
        """Tell a notable line; it also goes to standard output, which is the run's log."""
        print(text, flush=True)
        self.emit(EventType.LOG, {"level": level, "text": text})

    def alert(self, code: str, text: str) -> None:
        """Tell what the user should know although the run goes on."""
        print(text, flush=True)
        self.emit(EventType.ALERT, {"code": code, "text": text})

    def failure(
        self,
        kind: FailureKind,
        *,
        evidence: str,
        detail: str | None = None,
        changes: Mapping[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        """Tell why the run ends; ``changes`` are the spec's fields that a retry should alter."""
        values: dict[str, Any] = {"kind": kind.value, "evidence": evidence}
        if detail:
            values["detail"] = detail
        if changes:
            values["changes"] = dict(changes)
        self.emit(EventType.FAILURE, values, step=step)

    def close(self) -> None:
        """Close the file; nothing can be told after this."""
        self._file.close()


class Silent(Emitter):
    """Tells nothing: of several processes of a run one alone speaks."""

    def __init__(self) -> None:
        self.seq, self.goes_on = 0, False

    def emit(self, type_: EventType, values: Mapping[str, Any], *, step: int | None = None) -> None:
        """Leave it to the other."""

    def log(self, text: str, *, level: str = "info") -> None:
        """Leave it to the other."""

    def alert(self, code: str, text: str) -> None:
        """Leave it to the other."""

    def close(self) -> None:
        """There is nothing to close."""


def cut_torn_line(path: Path) -> int:
    """Cut a last line that a killed process left half written; return the last whole line's seq."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _TAIL)
        file.seek(start)
        tail = file.read()
        while tail:
            end = tail.rfind(b"\n") + 1
            tail = tail[:end]
            seq = _seq(tail[tail.rfind(b"\n", 0, end - 1) + 1 :]) if end else None
            if seq is not None:
                file.truncate(start + end)
                return seq
            tail = tail[: tail.rfind(b"\n", 0, max(0, end - 1)) + 1]
        file.truncate(0)
    return 0


def _seq(line: bytes) -> int | None:
    try:
        return int(json.loads(line)["seq"])
    except (ValueError, KeyError, TypeError):
        return None


def finite(value: Any) -> Any:  # any JSON value
    """Return the value with each NaN and infinity in it replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
