"""Collects every feature's endpoints under ``/api/v1``. Knows no page.

The OpenAPI document is the application's own; ``/api/docs`` is a page of ours that reads it.
"""

from copy import deepcopy
from typing import Any

from fastapi import APIRouter, FastAPI, Request

from app.auth import endpoints as auth
from app.basemodels import endpoints as basemodels
from app.datasets import endpoints as datasets
from app.datasets import endpoints_exports as dataset_exports
from app.datasets import endpoints_formats as dataset_formats
from app.datasets import endpoints_hygiene as hygiene
from app.datasets import endpoints_repairs as repairs
from app.datasets import endpoints_uploads as uploads
from app.dependencies import SESSION_COOKIE, Public
from app.evaluations import endpoints as evaluations
from app.jobs import endpoints as jobs
from app.kit.schemas import Schema
from app.preflights import endpoints as preflights
from app.runs import endpoints as runs
from app.sweeps import endpoints as sweeps
from app.system import endpoints as system
from app.tokens import endpoints as tokens

PROBLEM_TYPE = "application/problem+json"


class ProblemField(Schema):
    """One wrong field by its dotted path, and what to do."""

    field: str
    message: str


class Problem(Schema):
    """What every failed call answers (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemField]


router = APIRouter(prefix="/api/v1")
for feature in (
    auth,
    basemodels,
    datasets,
    dataset_exports,
    dataset_formats,
    hygiene,
    repairs,
    uploads,
    evaluations,
    jobs,
    preflights,
    runs,
    sweeps,
    tokens,
):
    router.include_router(feature.router)

# Without the prefix: where load balancers and Prometheus look.
unprefixed = APIRouter()
unprefixed.include_router(system.router)


@router.get("/openapi.json", dependencies=[Public], include_in_schema=False, name="api.openapi")
def openapi(request: Request) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of this server."""
    return document(request.app)


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document with our errors, RFC 9457, in the place of FastAPI's own."""
    told = deepcopy(app.openapi())
    schemas: dict[str, Any] = told.setdefault("components", {}).setdefault("schemas", {})
    for foreign in ("HTTPValidationError", "ValidationError"):
        schemas.pop(foreign, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schemas["Problem"].pop("$defs", {})
    told["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "An API token, `tb_…`"},
        "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
    }
    told["security"] = [{"token": []}, {"session": []}]
    answer = {
        "description": "A problem; `code` is stable, `detail` says the cure",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for methods in told.get("paths", {}).values():
        for call in methods.values():
            call["responses"].pop("422", None)
            call["responses"]["default"] = answer
    return told
