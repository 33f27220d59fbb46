"""Every route says who may use it: exactly one permission, page, endpoint and socket alike."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from app import dependencies
from tests.fixtures.client import Client

PERMISSIONS = {
    dependencies.current_user,
    dependencies.member,
    dependencies.admin,
    dependencies.public,
    dependencies.local,
    dependencies.socket_actor,
    dependencies.upload_actor,
}
STATIC = "/static"  # the product's own style sheets and scripts, the only mount


def routes(application: FastAPI) -> list[Any]:
    return list(iter_route_contexts(application.routes))


def calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from calls(inner)


def permissions(route: Any) -> set[object]:
    return set(calls(route.dependant)) & PERMISSIONS


def test_every_route_declares_exactly_one_permission(application: FastAPI) -> None:
    wrong = {
        f"{route.path}: {[getattr(one, '__name__', one) for one in permissions(route)]}"
        for route in routes(application)
        if not isinstance(route.original_route, Mount) and len(permissions(route)) != 1
    }
    assert not wrong


def test_only_static_files_are_mounted(application: FastAPI) -> None:
    mounts = [one.path for one in routes(application) if isinstance(one.original_route, Mount)]
    assert mounts == [STATIC]


def test_a_route_that_changes_something_asks_for_more_than_a_reader(application: FastAPI) -> None:
    own_things = {"tokens.create", "tokens.revoke"}  # a viewer's own; the service checks
    for route in routes(application):
        unsafe = (getattr(route, "methods", None) or set()) - {"GET", "HEAD", "OPTIONS"}
        if unsafe and dependencies.current_user in permissions(route):
            is_own = route.name in own_things or not route.path.startswith("/api/")
            assert is_own, f"{unsafe} {route.path} lets a viewer through"


def test_nothing_but_public_routes_answers_a_stranger(
    application: FastAPI, anonymous_client: Client
) -> None:
    for route in routes(application):
        methods = getattr(route, "methods", None) or set()
        if "GET" not in methods or permissions(route) != {dependencies.current_user}:
            continue
        path = route.path.replace("{", "").replace("}", "").replace(":path", "")
        answer = anonymous_client.get(path)
        assert answer.status_code in {401, 303}, path
