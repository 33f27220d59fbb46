"""The files that a run's rows come from, on this machine, and where its script cannot follow them.

Knows the storage and a version's files; no query, no HTTP and nothing of training.
"""

from typing import Any

from app.datasets import reading
from app.datasets.leaving.handing import handed
from app.datasets.models import DatasetVersion
from app.datasets.problems import Code
from app.kit.storage import get_storage, job_folder
from app.runs.spec import RunSpec
from app.settings import Settings


def files(
    settings: Settings,
    spec: RunSpec,
    version: DatasetVersion,
    *,
    job_id: str,
    measured: DatasetVersion | None = None,
) -> dict[str, Any]:
    """Return the fields of a ``TrainerJob`` that name the rows; remote files are fetched.

    A version that was checked before there were tables is read by its lines. ``measured`` is the
    version that a split holds out as a file.
    """
    storage, folder = get_storage(settings), job_folder(settings, job_id)
    found = handed(storage, version, folder)
    if "table_file" not in found:
        return found | {"excluded_lines": excluded(settings, spec, version)}
    if storage.exists(version.groups_key):
        found["groups_file"] = str(storage.here(version.groups_key, folder))
    if split := spec.config.data.split:
        found["split_file"] = str(storage.here(f"{version.folder}/split-{split}", folder))
    if measured is not None:
        found["measured"] = handed(storage, measured, folder / "measured")
    return found


def excluded(settings: Settings, spec: RunSpec, version: DatasetVersion) -> tuple[int, ...]:
    """Return the lines that a run leaves out because of their errors."""
    if not spec.config.data.exclude_problem_rows:
        return ()
    return reading.bad_lines(get_storage(settings), version)


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
