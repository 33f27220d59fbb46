"""The API's readable documentation, made from its own OpenAPI document. No foreign script.

Knows the document's shape and no endpoint.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response

from app.api import document
from app.dependencies import OptionalActor, Public
from web.rendering import render
from web.shell import BareShellDep

router = APIRouter()

_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Field:
    """A parameter or a field of a body."""

    name: str
    kind: str
    is_required: bool
    text: str


@dataclass(frozen=True)
class Operation:
    """One call: method and path, what it takes, what it answers."""

    anchor: str
    method: str
    path: str
    title: str
    text: str
    parameters: tuple[Field, ...]
    body: tuple[Field, ...]
    body_kind: str
    answers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Group:
    """Calls of one feature."""

    title: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class ApiDocs:
    """All calls of this server."""

    template: ClassVar[str] = "api_docs.html"
    groups: tuple[Group, ...]
    schemas: tuple[tuple[str, str, tuple[Field, ...]], ...]
    version: str
    is_signed_in: bool
    base_url: str


@router.get("/api/docs", dependencies=[Public], name="pages.api_docs")
def api_docs(request: Request, shell: BareShellDep, actor: OptionalActor) -> Response:
    """The API, call by call."""
    told = document(request.app)
    page = ApiDocs(
        groups=groups_of(told),
        schemas=tuple(
            (_short(name), str(one.get("description", "")), tuple(_fields(one)))
            for name, one in told.get("components", {}).get("schemas", {}).items()
            if one.get("properties")
        ),
        version=told["info"]["version"],
        is_signed_in=actor is not None,
        base_url=str(request.base_url).rstrip("/"),
    )
    return render(page, shell)


def groups_of(told: Mapping[str, Any]) -> tuple[Group, ...]:
    """Return the calls of an OpenAPI document by their first tag, in order."""
    found: dict[str, list[Operation]] = {}
    for path, methods in told["paths"].items():
        for method in _METHODS:
            if method in methods:
                call = methods[method]
                title = str((call.get("tags") or ["other"])[0])
                found.setdefault(title[:1].upper() + title[1:], []).append(
                    _operation(told, method, path, call)
                )
    return tuple(Group(title, tuple(calls)) for title, calls in found.items())


def _operation(
    told: Mapping[str, Any], method: str, path: str, call: Mapping[str, Any]
) -> Operation:
    body_kind, schema = _body(told, call.get("requestBody", {}).get("content", {}))
    return Operation(
        anchor=call["operationId"],
        method=method.upper(),
        path=path,
        title=str(call.get("summary", "")),
        text=str(call.get("description", "")),
        parameters=tuple(
            Field(
                f"{one['name']} ({one['in']})",
                kind_of(one.get("schema", {})),
                bool(one.get("required")),
                str(one.get("description", "")),
            )
            for one in call.get("parameters", [])
        ),
        body=tuple(_fields(schema)),
        body_kind=body_kind,
        answers=tuple(_answers(call)),
    )


def _body(told: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    for kind, media in content.items():
        schema = media.get("schema", {})
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        return kind, told["components"]["schemas"][name] if name else schema
    return "", {}


def _fields(schema: Mapping[str, Any]) -> Iterator[Field]:
    required = set(schema.get("required", []))
    for name, one in schema.get("properties", {}).items():
        text = str(one.get("description", ""))
        if one.get("default") is not None:
            text = f"{text} Default: {one['default']}".strip()
        yield Field(name, kind_of(one), name in required, text)


def kind_of(schema: Mapping[str, Any]) -> str:
    """Return a schema in a few words: string, Run, array of Run, one of a | b."""
    if "$ref" in schema:
        return _short(str(schema["$ref"]).rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(kind_of(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f'"{value}"' for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {kind_of(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


def _short(name: str) -> str:
    """Return a schema's name without the module that tells two of a name apart."""
    return name.rpartition("__")[2]


def _answers(call: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for status, one in call.get("responses", {}).items():
        if status == "default":
            continue  # the problem document: said once, above
        kinds = [kind_of(media.get("schema", {})) for media in one.get("content", {}).values()]
        yield status, kinds[0] if kinds else "", str(one.get("description", ""))
