"""``/healthz``, ``/readyz`` and ``/metrics``, for load balancers and Prometheus."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from app.dependencies import Local, Public, SessionDep, SettingsDep
from app.system import service

router = APIRouter(tags=["System"])


@router.get("/healthz", dependencies=[Public], name="system.alive")
def alive() -> dict[str, str]:
    """Tell that this process answers."""
    return {"status": "alive"}


@router.get("/readyz", dependencies=[Public], name="system.ready")
def ready(session: SessionDep, settings: SettingsDep, response: Response) -> dict[str, Any]:
    """Tell whether database, broker and disk are usable: 200, or 503 with what is not."""
    checks = service.readiness(session, settings=settings)
    well = all(check.ok for check in checks.values())
    response.status_code = 200 if well else 503
    return {
        "status": "ready" if well else "not_ready",
        "checks": {name: {"ok": item.ok, "detail": item.detail} for name, item in checks.items()},
    }


@router.get(
    "/metrics", dependencies=[Local], name="system.metrics", response_class=PlainTextResponse
)
def metrics(session: SessionDep) -> PlainTextResponse:
    """Counts in Prometheus's text format; from this machine, or with a token."""
    return PlainTextResponse(
        service.prometheus(session), media_type="text/plain; version=0.0.4; charset=utf-8"
    )
