"""A whole Tunebox for browser tests and screenshots: `tunebox up` on a new data folder.

Uses the product from outside only: its command, its log and its pages.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
EMAIL = "ada@example.org"
PASSWORD = "correct horse battery"  # a test account on a throw-away box


def chromium() -> str | None:
    """Return the path of a Chromium on this machine, or None."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Box:
    """A running box: where it answers, its first-admin link and its process."""

    url: str
    welcome: str
    folder: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        """Return what `tunebox up` has printed so far."""
        return (self.folder / "up.log").read_text(errors="replace")


def _wait_for(folder: Path, process: subprocess.Popen[bytes], pattern: str, seconds: float) -> str:
    deadline, text = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        text = (folder / "up.log").read_text(errors="replace")
        if found := re.search(pattern, text):
            return found.group(0)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"tunebox up did not print {pattern!r}:\n{text[-4000:]}")


@contextmanager
def running_box(folder: Path, **environment: str) -> Iterator[Box]:
    """Start `tunebox up` below ``folder``; stop it as Ctrl-C does when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{free_port()}"
    outer = os.environ.copy()  # noqa: TID251  # for the child, without our own settings
    env = {key: value for key, value in outer.items() if not key.startswith("TUNEBOX_")}
    env |= {"TUNEBOX_DATA": str(folder / "data"), "TUNEBOX_ALLOW_SIMULATED": "1", **environment}
    command = [sys.executable, "-m", "app.cli", "up", "--port", url.rsplit(":", 1)[1]]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        try:
            welcome = _wait_for(folder, process, re.escape(url) + r"/join/[\w-]+", 120)
            yield Box(url, welcome, folder, process)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a headless Chromium without its background traffic."""
    flags = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium(), args=flags)
        yield chrome
        chrome.close()
