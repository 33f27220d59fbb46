"""Structured logs with the request's or job's id, and without secrets. Knows no feature.

One line per event, readable in a terminal, JSON where ``json`` is asked for. Third-party logs go
through the same pipe.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_KEYS = re.compile(r"password|secret|token|authorization|cookie|csrf|api_key", re.IGNORECASE)
_HARMLESS_KEYS = frozenset({"tokens", "tokens_per_second", "token_id"})
_SECRET_TEXT = re.compile(
    r"(?P<token>\btb_)[\w-]{8,}|(?P<link>/join/)[\w-]{8,}|(?P<url>://[^/\s:@]*:)[^/\s@]+(?=@)"
    r"|(?P<hub>\bhf_)\w{8,}"
)
_HIDDEN = "•••"


def scrub(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Hide values under secret names, and tokens, one-time links and passwords inside texts."""
    for key, value in event.items():
        if _SECRET_KEYS.search(key) and key not in _HARMLESS_KEYS:
            event[key] = _HIDDEN
        elif isinstance(value, str):
            event[key] = scrub_text(value)
    return event


def scrub_text(text: str) -> str:
    """Return ``text`` without tokens, one-time links and passwords in URLs."""
    return _SECRET_TEXT.sub(_keep_prefix, text)


def _keep_prefix(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group) + _HIDDEN


def configure(*, json: bool = False, level: int = logging.INFO) -> None:
    """Send all logs of this process to stderr, with the bound context and scrubbed."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrub,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json
        # Plain tracebacks: the pretty ones print local variables, and with them secrets.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[*shared[:-1], _scrub_foreign],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _scrub_foreign(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return scrub(logger, method, event)
