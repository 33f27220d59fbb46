"""What a failed request answers: a problem document for programs, a page for people.

RFC 9457 under the API's paths, ``web.errors`` elsewhere. Never a stack trace: unexpected errors
are logged with the request's id and answered with that id. Knows no feature.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.errors import AppError, Conflict, FieldError, Invalid, NotFound, Unavailable
from app.kit.schemas import sentence
from web import errors as web_errors

log = structlog.get_logger(__name__)

API_PATHS = ("/api/", "/v1/", "/healthz", "/readyz", "/metrics", "/ws/")


class MethodNotAllowed(AppError):
    """The path exists, but not with this method."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"


class Malformed(AppError):
    """The request's form cannot be read."""

    status = 400
    code = "malformed"
    title = "The request cannot be read"


class Internal(AppError):
    """An error of ours."""


def register(app: FastAPI) -> None:
    """Answer every kind of failure of ``app``."""
    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
        AppError: _answer,
        HTTPException: _on_http_exception,
        RequestValidationError: _on_validation,
        DataError: _on_data_error,
        IntegrityError: _on_integrity_error,
        InterfaceError: _on_outage,
        OperationalError: _on_outage,
        RedisError: _on_outage,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def is_api(path: str) -> bool:
    """Tell whether programs, not people, ask for this path."""
    return f"{path}/".startswith(API_PATHS) or path.startswith(API_PATHS)


async def _answer(request: Request, error: AppError) -> Response:
    return answer(request, error)


def answer(request: Request, error: AppError) -> Response:
    """Return ``error`` as a problem document or as a page."""
    if is_api(request.url.path):
        response: Response = problem(error)
    else:
        response = web_errors.error_response(request, error)
    response.headers.update(error.headers)
    wait = getattr(error, "retry_after", None)
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    if error.status == 401 and is_api(request.url.path):  # noqa: PLR2004
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem(error: AppError) -> JSONResponse:
    """Return ``error`` as RFC 9457 ``application/problem+json``."""
    content = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "errors": [{"field": item.field, "message": item.message} for item in error.errors],
    }
    return JSONResponse(content, status_code=error.status, media_type="application/problem+json")


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    response = answer(request, _from_http(request, error))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _from_http(request: Request, error: HTTPException) -> AppError:
    if error.status_code == 404:  # noqa: PLR2004
        return NotFound(f"There is nothing at {request.url.path[:200]}.")
    if error.status_code == 405:  # noqa: PLR2004
        return MethodNotAllowed(f"{request.method} is not possible at {request.url.path[:200]}.")
    if error.status_code == 400:  # noqa: PLR2004
        return Malformed(f"{error.detail}. Check how the request is written.")
    other = AppError(str(error.detail))
    other.status, other.title = error.status_code, str(error.detail)
    other.code = f"http_{error.status_code}"
    return other


async def _on_validation(request: Request, error: RequestValidationError) -> Response:
    if all(item["loc"][0] == "path" for item in error.errors()):
        return answer(request, NotFound(f"There is nothing at {request.url.path[:200]}."))
    return answer(request, from_validation(error.errors()))


def from_validation(errors: Sequence[Any]) -> AppError:
    """Return pydantic's findings as ours: dotted fields, plain words, the first as the detail."""
    for item in errors:
        if item["type"] == "json_invalid":
            place = item["loc"][-1] if isinstance(item["loc"][-1], int) else 0
            why = item.get("ctx", {}).get("error", "not JSON")
            return Malformed(
                f"The body is not valid JSON: {why} at character {place}.", code="malformed_json"
            )
    fields = [FieldError(_dotted(item["loc"]), sentence(item)) for item in errors]
    more = f" ({len(fields) - 1} more below)" if len(fields) > 1 else ""
    return Invalid(f"{fields[0].field}: {fields[0].message}{more}", errors=tuple(fields))


def _dotted(loc: Sequence[str | int]) -> str:
    parts = [str(part) for part in loc]
    if parts and parts[0] in {"body", "query", "path", "header", "cookie"}:
        parts = parts[1:] or ["body"]
    return ".".join(parts)


async def _on_data_error(request: Request, error: DataError) -> Response:
    log.info("unstorable_input", error=str(error.orig)[:200])
    return answer(request, Invalid("A text holds a character that cannot be stored (such as NUL)."))


async def _on_integrity_error(request: Request, error: IntegrityError) -> Response:
    log.warning("integrity_error", error=str(error.orig)[:500])
    return answer(
        request, Conflict("Somebody changed this at the same time. Reload and try again.")
    )


async def _on_outage(request: Request, error: Exception) -> Response:
    log.error("outage", error=repr(error)[:500])
    part = "queue's broker" if isinstance(error, RedisError) else "database"
    return answer(request, Unavailable(f"The {part} does not answer. Try again in a moment."))


def unexpected(request: Request, request_id: str) -> Response:
    """Return the answer to an error that nobody expected; the log has the rest."""
    detail = f"An unexpected error. The server's log has it under the request id {request_id}."
    return answer(request, Internal(detail))
