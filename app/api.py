"""Collects every feature's endpoints under ``/api/v1``. Knows no page.

The OpenAPI document is the application's own; ``/api/docs`` is a page of ours that reads it.
"""

from typing import Any

from fastapi import APIRouter, Request

from app.auth import endpoints as auth
from app.basemodels import endpoints as basemodels
from app.datasets import endpoints as datasets
from app.dependencies import Public
from app.evaluations import endpoints as evaluations
from app.jobs import endpoints as jobs
from app.runs import endpoints as runs
from app.system import endpoints as system

OPENAPI_PATH = "/api/v1/openapi.json"

router = APIRouter(prefix="/api/v1")
for feature in (auth, basemodels, datasets, evaluations, jobs, runs):
    router.include_router(feature.router)

# Without the prefix: where load balancers and Prometheus look.
unprefixed = APIRouter()
unprefixed.include_router(system.router)


@router.get("/openapi.json", dependencies=[Public], include_in_schema=False, name="api.openapi")
def openapi(request: Request) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of this server."""
    return request.app.openapi()
