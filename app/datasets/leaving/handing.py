"""A version's rows as files of this machine, for a process that knows neither storage nor database.

Knows the files of a version, not who reads them.
"""

from pathlib import Path
from typing import Any

from app.datasets.models import DatasetVersion
from app.kit.storage import Storage


def handed(storage: Storage, version: DatasetVersion, folder: Path) -> dict[str, Any]:
    """Return rows, table and how they are read, by the trainer's names for them.

    Of a version that was checked before there were tables, the file as uploaded. What lies
    elsewhere is fetched into ``folder``.
    """
    if not storage.exists(version.table_key):
        return {"dataset_file": str(storage.here(version.storage_key, folder))}
    return {
        "dataset_file": str(storage.here(version.rows_key, folder)),
        "table_file": str(storage.here(version.table_key, folder)),
        "format": version.format or "messages",
        "mapping": version.mapping,
        "content": version.sha256,
    }
