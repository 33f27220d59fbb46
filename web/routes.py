"""Collects the pages and serves the static files. Knows no page's content.

``app.main`` calls ``mount(app)`` once. A module of ``web.pages`` with a ``router`` is a page.
"""

import importlib
import pkgutil

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from web import pages
from web.rendering import STATIC

_FOR_EVER = "public, max-age=31536000, immutable"


class HashedFiles(StaticFiles):
    """Static files: for ever where the address carries a content hash, else asked for again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serve a file with the cache header that its address deserves."""
        response = await super().get_response(path, scope)
        has_hash = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = _FOR_EVER if has_hash else "no-cache"
        return response


def router() -> APIRouter:
    """Return all pages, fixed paths before those with parts to fill in (/runs/new, /runs/{id}).

    None of them is part of the API's description.
    """
    collected = APIRouter(include_in_schema=False)
    routes: list[BaseRoute] = []
    for module in pkgutil.iter_modules(pages.__path__):
        page = importlib.import_module(f"web.pages.{module.name}")
        routes += page.router.routes if hasattr(page, "router") else []
    for route in sorted(routes, key=_parts_to_fill):
        if isinstance(route, APIRoute):
            route.include_in_schema = False
        collected.routes.append(route)
    return collected


def _parts_to_fill(route: BaseRoute) -> int:
    return getattr(route, "path", "").count("{")


def mount(app: FastAPI) -> None:
    """Add pages and static files to ``app``."""
    app.include_router(router())
    app.mount("/static", HashedFiles(directory=STATIC), name="static")
