"""Promises of `tunebox up`, kept by the real command on a data folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy import text

from app.embedded import places
from app.errors import Conflict
from app.kit.db import get_engine
from app.up import children, migrations, preflight
from app.up.children import Child
from app.up.output import Printer

PATIENCE = 90


class Up:
    """A `tunebox up` of this test."""

    def __init__(self, data: Path) -> None:
        self.data, self.port = data, free_port()
        self.log = data.with_suffix(".log")
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.log.write_bytes(b"")
        with self.log.open("wb") as log:
            return subprocess.Popen(
                command("up", "--data", str(self.data), "--port", str(self.port)),
                stdout=log, stderr=log, env=environment(), start_new_session=True,
            )  # fmt: skip

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while words not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "app.cli", *words]


def environment() -> dict[str, str]:
    inherited = os.environ.copy()  # noqa: TID251  # for a child
    ours = ("TUNEBOX_", "DATABASE_URL", "REDIS_URL")
    kept = {key: value for key, value in inherited.items() if not key.startswith(ours)}
    return kept | {"TUNEBOX_WORKERS": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes_of(data: Path) -> list[psutil.Process]:
    """Return every process that was told to use this data folder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if str(data) in (process.environ().get("TUNEBOX_DATA"), process.environ().get("HOME")):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a short folder; end whatever still runs there."""
    folder = Path(tempfile.mkdtemp(prefix="tb-up-"))
    yield folder
    for place in ("data", "data/postgres", "data/valkey"):
        for process in processes_of(folder / place):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_up_refuses_what_is_taken_survives_a_kill_and_stops_in_order(folder: Path) -> None:
    box = Up(folder / "data")
    box.wait_for("Tunebox runs at")
    refuses_a_second_one_on_the_same_folder(box)
    refuses_a_port_that_is_taken(folder, box.port)

    box.process.kill()
    box.process.wait()
    box.process = box.start()
    box.wait_for("Tunebox runs at")
    assert "/join/" in box.log.read_text()

    assert box.stop() == 0
    said = box.log.read_text()
    assert said.index("stopping") < said.index("tunebox    │ stopped")
    assert "Traceback" not in said
    for place in (box.data, box.data / "postgres"):  # workers of the killed one end by themselves
        assert psutil.wait_procs(processes_of(place), timeout=PATIENCE)[1] == []


def refuses_a_second_one_on_the_same_folder(box: Up) -> None:
    words = command("up", "--data", str(box.data), "--port", str(free_port()))
    second = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())
    assert second.returncode != 0
    assert second.stderr.startswith("tunebox: Tunebox already runs on")
    assert second.stderr.count("\n") == 1


def refuses_a_port_that_is_taken(folder: Path, port: int) -> None:
    words = command("up", "--data", str(folder / "other"), "--port", str(port))
    second = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())
    assert second.returncode != 0
    assert second.stderr.startswith(f"tunebox: Port {port} on 127.0.0.1 is taken")
    assert second.stderr.count("\n") == 1


def test_a_database_newer_than_the_code_is_refused_untouched(committed_database: str) -> None:
    with get_engine(committed_database).begin() as connection:
        connection.execute(text("update alembic_version set version_num = '2099_future'"))
    with pytest.raises(Conflict, match="2099_future, newer than this code"):
        migrations.upgrade(committed_database)
    with get_engine(committed_database).connect() as connection:
        assert connection.scalar(text("select version_num from alembic_version")) == "2099_future"


def test_a_full_disk_is_refused_before_anything_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * 2**20))
    with (
        pytest.raises(places.EmbeddedFailure, match="has 10 MiB left"),
        preflight.sole_user(folder),
    ):
        pass
    assert not (folder / "postgres").exists()


def test_the_folder_is_free_again_once_its_user_has_gone(folder: Path) -> None:
    with preflight.sole_user(folder), pytest.raises(Conflict), preflight.sole_user(folder):
        pass
    with preflight.sole_user(folder):
        pass


def test_a_child_that_dies_is_started_again_later_each_time() -> None:
    child = Child("crash", [sys.executable, "-c", "raise SystemExit(3)"], {}, Printer())
    child.start()
    first = child.process
    assert first
    first.wait()
    child.tend()
    assert child.process is first
    time.sleep(0.6)
    child.tend()
    assert child.process is not first
    assert child.process
    child.process.wait()


def test_a_child_that_outlived_a_killed_up_is_ended_by_the_next(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = Child("server", sleeper, {}, Printer(), orphan_signal=signal.SIGKILL)
    child.start()
    children.remember(tmp_path / "children.json", [child])
    children.end_leftovers(tmp_path / "children.json")
    assert not child.is_running


def test_a_number_that_now_belongs_to_another_program_is_left_alone(tmp_path: Path) -> None:
    ledger = tmp_path / "children.json"
    ledger.write_text(f"[[{os.getpid()}, 1.0, {int(signal.SIGKILL)}]]")
    children.end_leftovers(ledger)
    assert not ledger.exists()
