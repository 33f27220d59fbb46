"""What may be done with base models: register, look, scan, remove. Downloads are ``fetching``.

Knows no HTTP. A model's files are read as data only; see ``files``.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from sqlalchemy.orm import Session

from app.auth import service as auth
from app.auth.roles import Actor, require_owner, require_write
from app.basemodels import files, repository
from app.basemodels.facts import ModelFacts, NotTunable
from app.basemodels.models import BaseModelRow
from app.errors import Conflict, Invalid, NotFound
from app.jobs import service as jobs
from app.jobs.models import Job
from app.jobs.state import JobKind, JobStatus, StopMode
from app.kit.clock import utc_now
from app.kit.db import after_commit
from app.kit.ids import new_id
from app.kit.pagination import Page, PageRequest, encode_cursor
from app.kit.storage import model_folder
from app.queue import Lane
from app.settings import Settings

DEFAULT_REVISION = "main"


@dataclass(frozen=True)
class BaseModelView:
    """A model with the job that downloads it, if any, and how many runs it has."""

    model: BaseModelRow
    job: Job | None
    runs: int

    @property
    def facts(self) -> ModelFacts | None:
        """What its files say; None while they are not there."""
        return ModelFacts.from_json(self.model.facts) if self.model.facts else None

    @property
    def progress(self) -> float | None:
        """How much of it is downloaded, from 0 to 1."""
        if self.model.status != "downloading" or self.job is None:
            return None
        return self.job.progress


def facts_of(model: BaseModelRow) -> ModelFacts:
    """Return a ready model's facts."""
    if not model.facts:
        raise Conflict(f"{model.name} is not ready yet.", code="base_model_not_ready")
    return ModelFacts.from_json(model.facts)


def get(session: Session, *, model_id: str) -> BaseModelRow:
    """Return a model; ``NotFound`` if it was removed or never was."""
    found = repository.one(session, model_id)
    if found is None:
        raise NotFound("There is no such base model. Choose one of the Models page.")
    return found


def get_view(session: Session, *, model_id: str) -> BaseModelView:
    """Return a model with its download and its number of runs."""
    return _views(session, [get(session, model_id=model_id)])[0]


def list_models(session: Session, *, page: PageRequest) -> Page[BaseModelView]:
    """Return models by name."""
    position = page.position(str, str)
    after = (position[0], position[1]) if position else None
    found = repository.listed(session, after=after, limit=page.limit + 1)
    shown = list(found[: page.limit])
    more = len(found) > page.limit
    following = encode_cursor([shown[-1].name.lower(), shown[-1].id]) if more else None
    return Page(_views(session, shown), following, repository.count(session))


def _views(session: Session, models: Sequence[BaseModelRow]) -> list[BaseModelView]:
    known = jobs.get_many(session, [model.job_id for model in models if model.job_id])
    runs = repository.count_runs(session)
    return [
        BaseModelView(model, known.get(model.job_id or ""), runs.get(model.id, 0))
        for model in models
    ]


def unregistered_folders(session: Session, settings: Settings) -> list[str]:
    """Return folders below the models folder that hold a model and are not registered."""
    root = settings.models_folder
    if not root.is_dir():
        return []
    known = repository.folders(session)
    return sorted(
        path.name
        for path in root.iterdir()
        if path.name not in known
        and not path.name.startswith(".")
        and (path / "config.json").is_file()
    )


def register_folder(
    session: Session,
    settings: Settings,
    *,
    actor: Actor,
    folder: str,
    source: Literal["folder", "demo"] = "folder",
    name: str | None = None,
) -> BaseModelRow:
    """Register a folder below the models folder; ``Invalid`` says why it cannot be tuned."""
    require_write(actor)
    path = model_folder(settings, folder)
    known = repository.by_folder(session, folder)
    if known is not None and known.deleted_at is None:
        raise Conflict(f"This folder is registered already, as {known.name}.", code="known_model")
    try:
        found = files.inspect(path)
    except NotTunable as error:
        raise Invalid.field("folder", str(error), code="not_tunable") from error
    model = known or BaseModelRow(id=new_id("mdl"), folder=folder)
    model.name, model.source = name or folder, source
    model.created_by, model.created_at, model.deleted_at = actor.id, utc_now(), None
    session.add(model)
    set_ready(model, found)
    session.flush()
    _audit(session, actor, "base_model.register", model)
    return model


def set_ready(model: BaseModelRow, found: files.Inspection) -> None:
    """Write down what a model's files say."""
    model.facts, model.bytes = found.facts.as_json(), found.bytes
    model.parameters = found.facts.parameters
    model.status, model.failure = "ready", None  # allow: status — a model's, not a job's


def register_hub(
    session: Session, *, actor: Actor, hub_id: str, revision: str | None = None
) -> BaseModelRow:
    """Queue the download of a hub model; the revision is pinned to its commit on the way."""
    require_write(actor)
    if ".." in hub_id or ".." in (revision or ""):
        raise Invalid.field("hub_id", "use organisation/name as the hub shows it")
    wanted = revision or DEFAULT_REVISION
    known = repository.by_hub(session, hub_id, wanted)
    if known is not None:
        raise Conflict(f"{hub_id} is here already, at this revision.", code="known_model")
    model_id = new_id("mdl")
    model = BaseModelRow(
        id=model_id,
        name=hub_id,
        source="hub",
        folder=f"{hub_id.replace('/', '--')[:150]}--{model_id[-8:]}",
        hub_id=hub_id,
        revision=wanted,
        status="downloading",
        facts={},
        created_by=actor.id,
    )
    session.add(model)
    session.flush()
    job = jobs.submit(
        session,
        kind=JobKind.FETCH_MODEL,
        lane=Lane.LIGHT,
        title=f"Download {hub_id}",
        subject_id=model.id,
        owner_id=actor.id,
    )
    model.job_id = job.id
    session.flush()
    _audit(session, actor, "base_model.download", model)
    return model


def delete(session: Session, settings: Settings, *, actor: Actor, model_id: str) -> None:
    """Remove a model: downloaded files go, a folder of yours stays. Unfinished runs keep it."""
    model = repository.lock(session, model_id)
    if model is None:
        raise NotFound("There is no such base model. It may have been removed; see the list.")
    require_owner(actor, model.created_by)
    runs = repository.unfinished_runs(session, model_id)
    if runs:
        shown = ", ".join(runs[:5])
        raise Conflict(
            f"Unfinished runs need it: {shown}. Wait for them or stop them first.",
            code="base_model_in_use",
        )
    _stop_download(session, model)
    model.deleted_at = utc_now()
    if model.source == "hub":
        path = model_folder(settings, model.folder)
        after_commit(session, partial(shutil.rmtree, path, ignore_errors=True))
    _audit(session, actor, "base_model.delete", model)


def _stop_download(session: Session, model: BaseModelRow) -> None:
    if model.status != "downloading" or model.job_id is None:
        return
    if not JobStatus(jobs.get(session, model.job_id).status).is_final:
        jobs.request_stop(session, job_id=model.job_id, mode=StopMode.CANCEL)


def _audit(session: Session, actor: Actor, action: str, model: BaseModelRow) -> None:
    auth.audit(
        session,
        actor=actor,
        action=action,
        subject_type="base_model",
        subject_id=model.id,
        detail={"name": model.name, "revision": model.revision},
    )
