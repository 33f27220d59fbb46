"""Downloads a hub model in a child process and tells how far it is; the light lane runs it.

Knows no HTTP and no hub: the child does, ``python -m worker.fetch_model``, which prints one JSON
object a line. What arrives is inspected as data before the model is called ready.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from sqlalchemy.orm import Session

from app.basemodels import files, service
from app.basemodels.facts import NotTunable
from app.basemodels.models import BaseModelRow
from app.errors import AppError, NotFound
from app.kit.storage import model_folder
from app.settings import Settings

_TICK = 0.2
_GRACE = 5.0

OpenSession = Callable[[], AbstractContextManager[Session]]
Progress = Callable[[float, str], None]
Lines = Queue[bytes | None]


class FetchFailed(AppError):
    """The download failed; the sentence says why, and the cure."""

    status = 502
    code = "model_unavailable"
    title = "The base model cannot be downloaded"


class FetchStopped(Exception):  # no error: somebody asked for it
    """The download was asked to end."""


def fetch(
    open_session: OpenSession, *, settings: Settings, model_id: str, progress: Progress
) -> None:
    """Download, inspect and set ready. Raises ``FetchFailed``, or whatever ``progress`` raises.

    Each write is a transaction of its own. ``progress`` takes the share that is done and a text; it
    is asked several times a second and raises when the download is to end. What was downloaded by
    then stays for the next attempt.
    """
    with open_session() as session:
        model = _model(session, model_id)
        hub_id, revision = model.hub_id or "", model.revision or ""
        target = model_folder(settings, model.folder)
        model.status, model.failure = "downloading", None  # allow: status — a model's, not a job's
    if not target.is_dir():
        partial = partial_folder(target)
        commit = _download(hub_id, revision, partial, progress=progress)
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        with open_session() as session:
            _model(session, model_id).revision = commit
        partial.rename(target)
    _finish(open_session, model_id, target)


def partial_folder(target: Path) -> Path:
    """Return where a model lies until all of it is there."""
    return target.with_name(f".{target.name}.partial")


def _finish(open_session: OpenSession, model_id: str, target: Path) -> None:
    try:
        found = files.inspect(target)
    except NotTunable as error:
        shutil.rmtree(target, ignore_errors=True)
        raise FetchFailed(str(error)) from error
    with open_session() as session:
        service.set_ready(_model(session, model_id), found)


def give_up(session: Session, settings: Settings, *, model_id: str, reason: str) -> None:
    """Say on the model that its download failed or was stopped, and drop what came of it."""
    model = session.get(BaseModelRow, model_id)
    if model is None or model.status != "downloading":
        return
    model.status, model.failure = "failed", reason  # allow: status — a model's, not a job's
    target = model_folder(settings, model.folder)
    shutil.rmtree(partial_folder(target), ignore_errors=True)


def _model(session: Session, model_id: str) -> BaseModelRow:
    model = session.get(BaseModelRow, model_id)
    if model is None or model.deleted_at is not None:
        raise NotFound("The model was removed before its download ended.")
    return model


def _download(hub_id: str, revision: str, folder: Path, *, progress: Progress) -> str:
    """Run the child to its end and return the commit that was downloaded."""
    folder.mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "worker.fetch_model", hub_id, revision, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ.copy() | {"HF_HUB_DISABLE_TELEMETRY": "1"},  # noqa: TID251  # for a child
    )
    lines: Lines = Queue()
    threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    try:
        return _follow(lines, progress=progress)
    finally:
        _end(child)


def _read(child: subprocess.Popen[bytes], lines: Lines) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def _follow(lines: Lines, *, progress: Progress) -> str:
    """Pass on what the child says until it ends; return the commit."""
    done, total = 0, 0
    commit: str | None = None
    while True:
        progress(done / total if total else 0.0, _sizes(done, total))
        try:
            line = lines.get(timeout=_TICK)
        except Empty:
            continue
        if line is None:
            break
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise FetchFailed(str(said["error"]))
        done, total = said.get("done", done), said.get("total", total)
        commit = said.get("commit", commit)
    if commit is None:
        raise FetchFailed("The download ended without a word. Retry it; see the worker's log.")
    return commit


def _sizes(done: int, total: int) -> str:
    if not total:
        return "Asking the hub"
    return f"{done / 2**30:,.2f} of {total / 2**30:,.2f} GiB"


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
