"""What `tunebox up` prints: prefixed log lines and a block that is easy to find.

Knows no process and no server.
"""

import os
import sys
from threading import Lock
from typing import TextIO

_COLOURS = {"server": "36", "postgres": "34", "valkey": "35", "light": "33", "tunebox": "1"}
_DEVICE_COLOUR = "32"
_WIDTH = 10


class Printer:
    """Prints whole lines of several sources, one at a time."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = Lock()
        plain = os.environ.get("NO_COLOR")  # noqa: TID251  # a convention of terminals, no setting
        self._colour = self._stream.isatty() and not plain

    def line(self, source: str, text: str) -> None:
        """Print one line of ``source``."""
        self._write(f"{self._painted(source)} │ {text}\n")

    def block(self, lines: list[str]) -> None:
        """Print lines between empty ones, without a prefix."""
        width = max(len(line) for line in lines)
        rule = "─" * width
        self._write("\n".join(["", rule, *lines, rule, "", ""]))

    def _painted(self, source: str) -> str:
        name = f"{source:<{_WIDTH}}"
        if not self._colour:
            return name
        return f"\x1b[{_COLOURS.get(source, _DEVICE_COLOUR)}m{name}\x1b[0m"

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                return  # the terminal is gone; stopping in order matters more
