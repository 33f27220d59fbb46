"""How a large file of the import folder comes in: copied by the job that checks its version.

The version is stored at once and waits for its content under a name that is no hash. The copy is
made beside its place and moved there when it is whole; killed on the way it starts again. Knows no
HTTP and no worker.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy.orm import Session

from app.datasets import repository
from app.datasets.arriving import importing
from app.datasets.models import DatasetVersion
from app.errors import Conflict, Invalid
from app.jobs.state import FailureKind
from app.kit.storage import get_storage
from app.settings import Settings

OpenSession = Callable[[], AbstractContextManager[Session]]


def fetch(
    open_session: OpenSession,
    *,
    settings: Settings,
    version_id: str,
    progress: importing.Progress,
) -> None:
    """Bring the content of a version that is to be imported and is not here yet; else do nothing.

    ``Conflict`` where the file is gone, or where the dataset has this very content already.
    """
    with open_session() as session:
        version = session.get(DatasetVersion, version_id)
        import_id = (version.recipe or {}).get("import") if version else None
    if version is None or import_id is None or version.is_made:
        return
    storage, aside = get_storage(settings), f"{version.storage_key}-unmade"
    try:
        sha256, size = importing.fetch(settings, import_id, key=aside, progress=progress)
        with open_session() as session:
            _require_new(session, version, sha256)
    except Invalid as error:  # it was there when it was chosen
        raise Conflict(error.detail, code=FailureKind.BAD_DATASET) from error
    except Exception:
        storage.delete(aside)
        raise
    storage.move(aside, version.storage_key)
    with open_session() as session:
        here = session.get_one(DatasetVersion, version_id)
        here.sha256, here.bytes, here.recipe = sha256, size, None


def _require_new(session: Session, version: DatasetVersion, sha256: str) -> None:
    known = repository.version_by_content(session, version.dataset_id, sha256)
    if known is not None:
        raise Conflict(
            f"The file is what version {known.number} is already. Use that one.",
            code=FailureKind.BAD_DATASET,
        )
