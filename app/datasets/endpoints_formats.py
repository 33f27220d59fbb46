"""What a user says of a dataset's rows, over HTTP. Translation only; see ``describing``."""

from fastapi import APIRouter

from app.datasets import describing, schemas
from app.datasets.endpoints import StorageDep, dataset_out
from app.dependencies import Member, SessionDep

router = APIRouter(prefix="/datasets", tags=["Datasets"])


@router.post("/{dataset_id}/mapping", name="datasets.mapping")
def mapping(
    dataset_id: str,
    body: schemas.MappingIn,
    *,
    session: SessionDep,
    actor: Member,
    storage: StorageDep,
) -> schemas.DatasetOut:
    """Say a version's format and which column is which; it is checked again.

    409 names the runs that use the version; 422 the columns that there are not.
    """
    view = describing.describe(
        session,
        actor=actor,
        storage=storage,
        dataset_id=dataset_id,
        number=body.version,
        declared_format=body.format,
        mapping=body.mapping,
    )
    return dataset_out(view)
