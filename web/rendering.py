"""Turns a page's dataclass into HTML. The only producer of HTML.

A page or fragment is a frozen dataclass whose class attribute ``template`` names its file. A page's
fields are the template's variables. A fragment (``runs/_table.html``) is known in its template by
the file's stem (``table``): so a page that has it as the field ``table`` includes the same file.
``StrictUndefined`` and autoescape throughout; knows no feature.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.responses import HTMLResponse

from web import svg
from web.filters import FILTERS
from web.htmx import TOAST_COOKIE
from web.shell import Shell

HERE = Path(__file__).resolve().parent
STATIC = HERE / "static"
TEMPLATES = HERE / "templates"
COMPONENTS = ("ui", "forms", "pictures", "rows")


class Page(Protocol):
    """A frozen dataclass that names its template."""

    template: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


@lru_cache
def environment() -> Environment:
    """Return the Jinja environment: filters, and components as ``ui``, ``forms``, ``pictures``."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    env.filters.update(FILTERS)
    shared = cast("dict[str, object]", env.globals)
    shared.update(static=static, svg=svg, csrf_field=csrf_field)
    for name in COMPONENTS:
        shared[name] = env.get_template(f"components/{name}.html").module
    return env


@pass_context
def csrf_field(variables: Context) -> Markup:
    """Return the hidden field that every form with ``method="post"`` carries."""
    field = Markup('<input type="hidden" name="csrf_token" value="{}">')
    return field.format(variables["csrf_token"])


def static(name: str) -> str:
    """Return the address of a static file with a hash of its content, cacheable for ever."""
    path = STATIC / name
    return f"/static/{name}?v={_digest(path, path.stat().st_mtime_ns)}"


@lru_cache(maxsize=256)
def _digest(path: Path, modified: int) -> str:
    del modified  # part of the key: a changed file gets a new address
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def context(page: Page, shell: Shell) -> dict[str, Any]:
    """Return the variables of ``page``'s template."""
    stem = PurePosixPath(page.template).stem
    shown = {"shell": shell, "actor": shell.actor, "csrf_token": shell.csrf_token, "page": page}
    if stem.startswith("_"):
        return {**shown, stem.removeprefix("_"): page}
    return {**shown, **{item.name: getattr(page, item.name) for item in fields(page)}}


def render_text(page: Page, shell: Shell) -> str:
    """Return ``page`` as text."""
    return environment().get_template(page.template).render(context(page, shell))


def render(
    page: Page, shell: Shell, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    """Answer with ``page``; a toast that waited for it is shown once."""
    text = render_text(page, shell)
    response = HTMLResponse(text, status_code=status, headers=dict(headers or {}))
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Vary"] = "HX-Request, HX-Request-Type, Cookie"
    if shell.toast is not None:
        response.delete_cookie(TOAST_COOKIE, path="/")
    return response
