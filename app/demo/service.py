"""The demo: its base model and its datasets, owned by Tunebox itself, and a run in one click.

Seeding is idempotent: what is there stays. Knows no HTTP; its words are ``language`` and ``flaws``.
"""

import hashlib
import os
import shutil
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.models import User
from app.auth.roles import Actor, Role, Scope
from app.basemodels import repository as models
from app.basemodels import service as basemodels
from app.datasets import service as datasets
from app.datasets.models import Dataset
from app.datasets.service import Content
from app.errors import NotFound
from app.kit.clock import utc_now
from app.kit.ids import new_id
from app.kit.storage import get_storage, model_folder
from app.runs import service as runs
from app.runs.models import Run
from app.runs.schemas import RunRequest
from app.settings import Settings

EMAIL = "demo@tunebox.local"
MODEL = "tunebox-demo"
DATASET = "support-tickets"
HERE = Path(__file__).parent
HUE = 210


def seed(session: Session, settings: Settings) -> None:
    """Register the demo model and upload the demo datasets, each unless it is there."""
    actor = _owner(session)
    _seed_model(session, settings, actor)
    for file in sorted((HERE / "datasets").glob("*.jsonl")):
        _seed_dataset(session, settings, actor, file)


def launch(session: Session, *, actor: Actor) -> Run:
    """Queue a run of the demo model on the demo dataset, with the preset balanced."""
    model = models.by_folder(session, MODEL)
    statement = select(Dataset.id).join(User, User.id == Dataset.owner_id)
    found = statement.where(
        User.email == EMAIL, Dataset.name == DATASET, Dataset.deleted_at.is_(None)
    )
    dataset_id = session.scalar(found)
    if model is None or model.deleted_at is not None or dataset_id is None:
        raise NotFound("The demo was deleted. Restart Tunebox: it brings it back.")
    request = RunRequest(name="demo", dataset=dataset_id, base_model=model.id)
    return runs.create(session, actor=actor, request=request)


def _owner(session: Session) -> Actor:
    """Return Tunebox itself, who owns the demo: an account that nobody can sign in to."""
    user = session.scalar(select(User).where(User.email == EMAIL))
    if user is None:
        user = User(
            id=new_id("usr"),
            email=EMAIL,
            name="Tunebox",
            role=Role.VIEWER,
            hue=HUE,
            disabled_at=utc_now(),
        )
        session.add(user)
        session.flush()
    return Actor(
        user.id, user.email, user.name, Role.MEMBER, user.hue, via="session", scope=Scope.WRITE
    )


def _seed_model(session: Session, settings: Settings, actor: Actor) -> None:
    if models.by_folder(session, MODEL) is not None:
        return
    target = model_folder(settings, MODEL)
    target.mkdir(parents=True, exist_ok=True)
    for file in (HERE / "model").iterdir():
        _place(file, target / file.name)
    basemodels.register_folder(
        session, settings, actor=actor, folder=MODEL, source="demo", name="Tunebox demo"
    )


def _place(file: Path, target: Path) -> None:
    """Link the file into place, or copy it where that cannot be."""
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _seed_dataset(session: Session, settings: Settings, actor: Actor, file: Path) -> None:
    statement = select(Dataset.id).where(Dataset.owner_id == actor.id, Dataset.name == file.stem)
    if session.scalar(statement) is not None:
        return
    storage = get_storage(settings)
    data = file.read_bytes()
    key = f"incoming/{new_id('up')}"
    with storage.open(key, "wb") as target:
        target.write(data)
    content = Content(key, file.name, len(data), hashlib.sha256(data).hexdigest())
    datasets.add_version(session, actor=actor, storage=storage, content=content, name=file.stem)
