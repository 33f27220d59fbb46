"""The files that a run's rows come from, on this machine, and where its script cannot follow them.

Knows the storage and a version's files; no query, no HTTP and nothing of training.
"""

from pathlib import Path
from typing import Any

from app.datasets import reading
from app.datasets.models import DatasetVersion
from app.datasets.problems import Code
from app.kit.storage import get_storage, job_folder
from app.runs.spec import RunSpec
from app.settings import Settings


def files(
    settings: Settings, spec: RunSpec, version: DatasetVersion, *, job_id: str
) -> dict[str, Any]:
    """Return the fields of a ``TrainerJob`` that name the rows; remote files are fetched.

    A version that was checked before there were tables is read by its lines.
    """
    storage = get_storage(settings)

    def here(key: str) -> str:
        return str(_local_file(settings, job_id, key))

    if not storage.exists(version.table_key):
        return {
            "dataset_file": here(version.storage_key),
            "excluded_lines": excluded(settings, spec, version),
        }
    split = spec.config.data.split
    return {
        "dataset_file": here(version.rows_key),
        "table_file": here(version.table_key),
        "groups_file": here(version.groups_key) if storage.exists(version.groups_key) else None,
        "split_file": here(f"{version.folder}/split-{split}") if split else None,
        "format": version.format or "messages",
        "mapping": version.mapping,
        "content": version.sha256,
    }


def excluded(settings: Settings, spec: RunSpec, version: DatasetVersion) -> tuple[int, ...]:
    """Return the lines that a run leaves out because of their errors."""
    if not spec.config.data.exclude_problem_rows:
        return ()
    return reading.bad_lines(get_storage(settings), version)


def _local_file(settings: Settings, job_id: str, key: str) -> Path:
    """Return where a file of the storage lies here; one that is elsewhere is fetched once."""
    storage = get_storage(settings)
    here = storage.local_path(key)
    if here is not None:
        return here
    target = job_folder(settings, job_id) / key.rsplit("/", 1)[-1]
    if not target.exists():
        storage.fetch(key, target)
    return target


def differences(spec: RunSpec, version: DatasetVersion) -> list[str]:
    """Return what a run did with its rows that its script does not repeat, a sentence each."""
    found: list[str] = []
    if not version.is_plain or version.mapping or version.format not in {None, "messages"}:
        found.append("DATASET must be the version exported as messages JSONL.")
    if spec.config.data.split is not None:
        found.append("The run held out the rows of a stored split, the script rows by their hash.")
    elif (version.by_code or {}).get(Code.NEAR_DUPLICATE):
        found.append("The run kept near copies on one side, the script only equal rows.")
    return found
