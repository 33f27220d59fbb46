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
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from sqlalchemy.orm import Session

from app.basemodels import files, service
from app.basemodels.facts import NotTunable
from app.basemodels.models import BaseModelRow
from app.errors import AppError, NotFound
from app.jobs import service as jobs
from app.jobs.events import EventType, JobEvent
from app.kit.clock import utc_now
from app.kit.db import transaction
from app.kit.storage import model_folder
from app.settings import Settings

_TELL_EVERY = 1.0
_GRACE = 5.0


class FetchFailed(AppError):
    """The download failed; the sentence says why, and the cure."""

    status = 502
    code = "model_unavailable"
    title = "The base model cannot be downloaded"


class FetchStopped(Exception):  # no error: somebody asked for it
    """The download was asked to end."""


def fetch(
    url: str,
    model_id: str,
    *,
    settings: Settings,
    job_id: str,
    must_stop: Callable[[], bool],
) -> None:
    """Download, inspect and set ready. Raises ``FetchFailed`` or ``FetchStopped``.

    ``url`` names the database; each write is a transaction of its own. A download that was cut off
    goes on where it was.
    """
    with transaction(url) as session:
        model = _model(session, model_id)
        hub_id, revision = model.hub_id or "", model.revision or ""
        target = model_folder(settings, model.folder)
    partial = target.with_name(f".{target.name}.partial")
    if not target.is_dir():
        tell = _Teller(url, job_id)
        commit = _download(hub_id, revision, partial, tell=tell, must_stop=must_stop)
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        partial.rename(target)
        with transaction(url) as session:
            _model(session, model_id).revision = commit
    _finish(url, model_id, target)


def _finish(url: str, model_id: str, target: Path) -> None:
    try:
        found = files.inspect(target)
    except NotTunable as error:
        shutil.rmtree(target, ignore_errors=True)
        raise FetchFailed(str(error)) from error
    with transaction(url) as session:
        service.set_ready(_model(session, model_id), found)


def give_up(session: Session, settings: Settings, *, model_id: str, reason: str) -> None:
    """Say on the model that its download failed or was stopped, and drop what came of it."""
    model = session.get(BaseModelRow, model_id)
    if model is None or model.status != "downloading":
        return
    model.status, model.failure = "failed", reason  # allow: status — a model's, not a job's
    target = model_folder(settings, model.folder)
    shutil.rmtree(target.with_name(f".{target.name}.partial"), ignore_errors=True)


def _model(session: Session, model_id: str) -> BaseModelRow:
    model = session.get(BaseModelRow, model_id)
    if model is None or model.deleted_at is not None:
        raise NotFound("The model was removed before its download ended.")
    return model


class _Teller:
    """Stores progress as events of the job, at most once a second."""

    def __init__(self, url: str, job_id: str) -> None:
        self._url, self._job_id, self._last = url, job_id, 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last < _TELL_EVERY:
            return
        self._last = time.monotonic()
        values = {"phase": "downloading", "done": done, "total": total}
        event = JobEvent(seq=0, type=EventType.PHASE, at=utc_now(), values=values)
        with transaction(self._url) as session:
            jobs.append_events(session, self._job_id, [event])
            job = jobs.get(session, self._job_id)
            job.phase = "downloading"
            job.progress = min(1.0, done / total) if total else 0.0


def _download(
    hub_id: str,
    revision: str,
    folder: Path,
    *,
    tell: _Teller,
    must_stop: Callable[[], bool],
) -> str:
    """Run the child to its end and return the commit that was downloaded."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "worker.fetch_model", hub_id, revision, str(folder)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ.copy() | {"HF_HUB_DISABLE_TELEMETRY": "1"},  # noqa: TID251  # for a child
    )
    lines: Queue[bytes | None] = Queue()
    threading.Thread(target=_read, args=(child, lines), daemon=True).start()
    try:
        return _follow(lines, tell=tell, must_stop=must_stop)
    finally:
        _end(child)


def _read(child: subprocess.Popen[bytes], lines: "Queue[bytes | None]") -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def _follow(lines: "Queue[bytes | None]", *, tell: _Teller, must_stop: Callable[[], bool]) -> str:
    commit: str | None = None
    while True:
        if must_stop():
            raise FetchStopped
        try:
            line = lines.get(timeout=0.2)
        except Empty:
            continue
        if line is None:
            break
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise FetchFailed(str(said["error"]))
        if "done" in said:
            tell(int(said["done"]), int(said["total"]))
        commit = said.get("commit", commit)
    if commit is None:
        raise FetchFailed(
            "The download ended without a word. Start it again; see the worker's log."
        )
    return commit


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
