"""What surrounds every page: who is signed in, theme, counts beside the navigation, the box card.

A page asks for ``ShellDep`` (signed in) or ``BareShellDep`` (nobody yet) and hands it to
``render``. Declares no permission: the route does that. Knows no single page.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Request

from app.auth.roles import Actor
from app.dependencies import SessionDep, SignedIn
from web.htmx import Toast, htmx_of, kept_toast
from web.sidebar import Sidebar, sidebar

THEME_COOKIE = "tunebox_theme"
Theme = Literal["light", "dark", "auto"]


@dataclass(frozen=True)
class Shell:
    """The frame of a page. ``sidebar`` is None for a fragment and where nobody is signed in."""

    path: str
    theme: Theme
    actor: Actor | None = None
    csrf_token: str = ""
    toast: Toast | None = None
    sidebar: Sidebar | None = None

    def is_at(self, *prefixes: str) -> bool:
        """Tell whether the page lies under one of ``prefixes`` (``/`` only means itself)."""
        return any(self.path == p or (p != "/" and self.path.startswith(f"{p}/")) for p in prefixes)


def theme_of(request: Request) -> Theme:
    """Return the theme that the browser asked for; ``auto`` follows its system."""
    value = request.cookies.get(THEME_COOKIE)
    return value if value in ("light", "dark") else "auto"


def bare_shell(request: Request) -> Shell:
    """Return the frame of a page that nobody is signed in to see."""
    return Shell(request.url.path, theme_of(request), toast=kept_toast(request))


def full_shell(request: Request, session: SessionDep, actor: SignedIn) -> Shell:
    """Return the frame of a page with its sidebar; a fragment goes without."""
    is_fragment = htmx_of(request).wants_fragment
    return Shell(
        path=request.url.path,
        theme=theme_of(request),
        actor=actor,
        csrf_token=actor.csrf_token or "",
        toast=None if is_fragment else kept_toast(request),
        sidebar=None if is_fragment else sidebar(session),
    )


ShellDep = Annotated[Shell, Depends(full_shell)]
BareShellDep = Annotated[Shell, Depends(bare_shell)]
