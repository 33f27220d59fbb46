"""Puts the server together: middleware, API, pages, sockets, static files. Knows all, does nothing.

``uvicorn app.main:app``. Importing this module loads no training stack.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from fastapi import FastAPI

from app import api, error_handlers
from app.datasets.arriving.uploads import sweeping
from app.jobs.reaper import reaping
from app.logging import configure
from app.middleware import Frame
from app.settings import Settings, get_settings
from app.streaming import endpoints as streaming
from app.streaming.hub import serving
from web import routes
from web.security import HEADERS

VERSION = "0.1.0"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Log, watch for jobs whose worker was lost, and sweep uploads, while the server runs."""
    configure()
    settings = get_settings()
    url = settings.database_url
    async with serving(app):
        with reaping(url) if url else nullcontext(), sweeping(settings) if url else nullcontext():
            yield


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application, complete."""
    settings = settings or get_settings()
    app = FastAPI(
        title="Tunebox",
        version=VERSION,
        summary="A team's fine-tuning bench on its own GPU box.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    error_handlers.register(app)
    app.add_middleware(
        Frame,
        settings=settings,
        security=HEADERS,
        refuse=error_handlers.answer,
        crash=error_handlers.unexpected,
    )
    app.include_router(api.router)
    app.include_router(api.unprefixed)
    app.include_router(streaming.router)
    routes.mount(app)
    return app


app = create_app()
