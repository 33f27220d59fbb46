"""Downloads one hub model into a folder, as a process of its own: safetensors and text files only.

    python -m worker.fetch_model HUB_ID REVISION FOLDER

Prints one JSON object a line: {"done", "total"} in bytes, at the end {"commit"} or {"error"} with a
sentence and the cure. Knows neither database nor jobs; runs none of the model's code.
"""

import json
import shutil
import sys
import threading
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from app.basemodels.facts import NotTunable, require_tunable

PATTERNS = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "*.txt",
    "README.md",
    "LICENSE*",
)
_EVERY = 0.5


class Refused(Exception):  # named as the user reads it
    """The model cannot be downloaded; the sentence says why."""


def main(arguments: list[str]) -> int:
    """Download and tell; return 0 when all is there."""
    hub_id, revision, folder = arguments
    try:
        say(commit=download(hub_id, revision, Path(folder)))
    except Refused as error:
        say(error=str(error))
        return 1
    return 0


def say(**values: Any) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def download(hub_id: str, revision: str, folder: Path) -> str:
    """Download ``hub_id`` at ``revision`` and return its commit."""
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise Refused("huggingface_hub is not installed. Run `make install`.") from error
    try:
        info = HfApi().model_info(hub_id, revision=revision, files_metadata=True, timeout=30)
        commit = str(info.sha)
        wanted = _wanted(info.siblings or [])
        _look_first(hub_id, commit, folder, names=set(wanted))
        _require_space(folder, sum(wanted.values()))
        with _Progress(folder, sum(wanted.values())):
            snapshot_download(
                hub_id, revision=commit, local_dir=folder, allow_patterns=sorted(wanted)
            )
    except (Refused, NotTunable) as error:
        raise Refused(str(error)) from error
    except Exception as error:
        raise Refused(_sentence(error, hub_id, revision)) from error
    return commit


def _wanted(siblings: list[Any]) -> dict[str, int]:
    """Return the files to download with their sizes; folders within the model are left out."""
    return {
        one.rfilename: one.size or 0
        for one in siblings
        if "/" not in one.rfilename and any(fnmatch(one.rfilename, p) for p in PATTERNS)
    }


def _look_first(hub_id: str, commit: str, folder: Path, *, names: set[str]) -> None:
    """Refuse what cannot be tuned before its weights are downloaded."""
    from huggingface_hub import hf_hub_download

    def read(name: str) -> dict[str, Any]:
        if name not in names:
            return {}
        path = hf_hub_download(hub_id, name, revision=commit, local_dir=folder)
        return json.loads(Path(path).read_bytes())

    if "config.json" not in names:
        raise Refused(f"{hub_id} has no config.json. Choose a model for transformers.")
    require_tunable(read("config.json"), read("tokenizer_config.json"), names)


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + 2**30:
        raise Refused(
            f"The model takes {needed / 2**30:,.1f} GiB and {free / 2**30:,.1f} GiB are free. "
            "Free some disk space, then download it again."
        )


class _Progress:
    """Tells twice a second how many bytes lie in the folder."""

    def __init__(self, folder: Path, total: int) -> None:
        self._folder, self._total = folder, total
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            say(done=min(self._total, _bytes_below(self._folder)), total=self._total)


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # renamed at this moment
            continue
    return total


def _sentence(error: Exception, hub_id: str, revision: str) -> str:
    """Return what a user can do about an error of the hub's client."""
    name = type(error).__name__
    if name == "GatedRepoError":
        return (
            f"{hub_id} is gated. Accept its terms on the hub and start Tunebox with HF_TOKEN, "
            "or put its folder below the models folder."
        )
    if name == "RepositoryNotFoundError":
        return f"The hub has no model {hub_id}, or it is private. Check its name."
    if name == "RevisionNotFoundError":
        return f"{hub_id} has no revision {revision}. Use a branch, tag or commit of it."
    if (
        name in ("OfflineModeIsEnabled", "LocalEntryNotFoundError")
        or "Connect" in name
        or "Timeout" in name
    ):
        return (
            "The hub cannot be reached from this machine. Go online and download it again, or copy "
            "the model's folder below the models folder and register it there."
        )
    return f"The download failed: {name}: {str(error)[:300]}. Try again later."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
