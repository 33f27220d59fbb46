"""Promises of the embedded Postgres and Valkey, each killed and started for real."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import redis

from app.embedded import places
from app.embedded import postgres as postgres_module
from app.embedded.places import EmbeddedFailure
from app.embedded.postgres import Postgres
from app.embedded.valkey import Valkey


@pytest.fixture
def base() -> Iterator[Path]:
    """Return a short folder, since it holds sockets."""
    folder = Path(tempfile.mkdtemp(prefix="tb-e-"))
    yield folder
    Postgres(folder / "postgres").stop()
    Valkey(folder / "valkey").stop()
    shutil.rmtree(folder, ignore_errors=True)


def kill(pid: int | None) -> None:
    assert pid
    os.kill(pid, signal.SIGKILL)
    try:
        psutil.Process(pid).wait(5)
    except psutil.NoSuchProcess:
        return


def test_committed_rows_outlive_a_killed_postgres(base: Path) -> None:
    first = Postgres(base / "postgres").start()
    with first.connect("tunebox") as connection:
        connection.execute("create table kept as select 1 as one")
    kill(first.pid())
    again = Postgres(base / "postgres").start()
    with again.connect("tunebox") as connection:
        assert connection.execute("select one from kept").fetchall() == [(1,)]


def test_a_running_postgres_is_adopted_and_not_started_twice(base: Path) -> None:
    pid = Postgres(base / "postgres", durable=False).start().pid()
    assert Postgres(base / "postgres", durable=False).start().pid() == pid


def test_a_stale_pid_file_of_another_program_does_not_stop_the_start(base: Path) -> None:
    server = Postgres(base / "postgres", durable=False).start()
    server.stop()
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data}\n")
    assert Postgres(base / "postgres", durable=False).start().answers()


def test_a_killed_initdb_leaves_nothing_in_the_way(base: Path) -> None:
    (base / "postgres" / "data.new").mkdir(parents=True)
    (base / "postgres" / "data.new" / "PG_VERSION").write_text("18")
    assert Postgres(base / "postgres", durable=False).start().answers()


def test_a_message_outlives_a_killed_valkey(base: Path) -> None:
    first = Valkey(base / "valkey").start()
    redis.Redis.from_url(first.url).rpush("queue", "message")
    redis.Redis.from_url(first.url).execute_command("waitaof", 1, 0, 2000)
    kill(first.pid())
    again = Valkey(base / "valkey").start()
    assert redis.Redis.from_url(again.url).lrange("queue", 0, -1) == [b"message"]


def test_the_sockets_are_closed_to_other_users(base: Path) -> None:
    server = Valkey(base / "valkey").start()
    assert server.socket.parent.stat().st_mode & 0o077 == 0
    assert Postgres(base / "postgres").socket.stat().st_mode & 0o077 == 0


def test_a_deep_data_folder_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 120)
    server = Valkey(deep).start()
    try:
        assert len(str(server.socket)) < 104
        assert server.answers()
    finally:
        server.stop()


def test_a_full_disk_is_one_sentence(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        places.shutil, "disk_usage", lambda _: SimpleNamespace(total=2**40, used=2**40, free=0)
    )
    with pytest.raises(EmbeddedFailure, match=r"has 0 MiB left.*free some space"):
        Postgres(base / "postgres").start()


def test_a_data_folder_that_is_a_file_is_one_sentence(base: Path) -> None:
    (base / "postgres").write_text("not a folder")
    with pytest.raises(EmbeddedFailure, match=r"cannot be written.*--data"):
        Postgres(base / "postgres").start()


def test_missing_wheels_name_their_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module.places, "package_folder", lambda _: None)
    monkeypatch.setattr(postgres_module.Path, "glob", lambda *_: iter(()))
    with pytest.raises(EmbeddedFailure, match=r"tunebox\[embedded\].*DATABASE_URL"):
        postgres_module.binaries()
