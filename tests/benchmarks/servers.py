"""Postgres and Valkey for a benchmark, migrated, and named in this process's environment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.embedded.postgres import Postgres
from app.embedded.valkey import Valkey
from app.settings import get_settings
from app.up import migrations


@contextmanager
def servers(folder: Path) -> Iterator[str]:
    """Start both below ``folder`` and yield the database's URL."""
    postgres, valkey = Postgres(folder / "p").start(), Valkey(folder / "v").start()
    try:
        url = postgres.create_database("bench")
        migrations.upgrade(url)
        values = {"DATABASE_URL": url, "REDIS_URL": valkey.url, "TUNEBOX_DATA": str(folder / "d")}
        os.environ.update(values)  # noqa: TID251  # read by this process and its children
        get_settings.cache_clear()
        yield url
    finally:
        valkey.stop()
        postgres.stop()
