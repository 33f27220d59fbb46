"""Import every module that declares tables, for Alembic and the tests. Nothing else."""

from app.auth import models as auth
from app.basemodels import models as basemodels
from app.datasets import models as datasets
from app.devices import models as devices
from app.evaluations import models as evaluations
from app.jobs import models as jobs
from app.kit.db import Base
from app.metrics import models as metrics
from app.preflights import models as preflights
from app.runs import models as runs
from app.sweeps import models as sweeps

TABLES = (
    auth,
    basemodels,
    datasets,
    devices,
    evaluations,
    jobs,
    metrics,
    preflights,
    runs,
    sweeps,
)
metadata = Base.metadata

__all__ = ["TABLES", "metadata"]
