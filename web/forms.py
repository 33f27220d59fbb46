"""Form data to a pydantic schema, and errors back to their fields. Knows no page and no feature.

A form's field names are the schema's dotted paths (``config.training.epochs``). An empty field is
one that was not filled in: it is left out, and the schema's default counts. A checkbox has a hidden
twin of the same name before it (``components/forms.html`` puts it there): the last value counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData

from app.auth import csrf
from app.errors import AppError

SchemaT = TypeVar("SchemaT", bound=BaseModel)
_OWN_FIELDS = frozenset({csrf.FIELD})


@dataclass(frozen=True)
class Form:
    """What a form shows: values as the user typed them, and one message per wrong field.

    ``error`` is what concerns no single field.
    """

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    error: str | None = None

    def value(self, name: str, default: object = "") -> Any:  # what a template prints
        """Return what was typed into ``name``, or ``default``."""
        return self.values.get(name, default)

    def message(self, name: str) -> str | None:
        """Return what is wrong with ``name``."""
        return self.errors.get(name)

    @property
    def is_wrong(self) -> bool:
        """Tell whether anything is wrong."""
        return bool(self.errors or self.error)


@dataclass(frozen=True)
class Parsed(Generic[SchemaT]):
    """Either a valid ``data``, or a ``form`` with the errors in it."""

    data: SchemaT | None
    form: Form


def flat(data: FormData | Mapping[str, Any]) -> dict[str, str]:
    """Return the text fields, last value first served; the CSRF token is not one of them."""
    pairs = data.multi_items() if isinstance(data, FormData) else data.items()
    return {name: value.strip() for name, value in pairs
            if isinstance(value, str) and name not in _OWN_FIELDS}  # fmt: skip


def nested(values: Mapping[str, str]) -> dict[str, Any]:
    """Turn ``{"a.b": "1"}`` into ``{"a": {"b": "1"}}``; empty fields are left out."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        if value == "":
            continue
        *parents, last = name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = value
    return tree


def parse(data: FormData | Mapping[str, Any], schema: type[SchemaT]) -> Parsed[SchemaT]:
    """Read ``data`` as ``schema``; what is wrong ends up at its field."""
    values = flat(data)
    try:
        return Parsed(schema.model_validate(nested(values)), Form(values=values))
    except ValidationError as error:
        return Parsed(None, Form(values=values, errors=messages(error)))


def messages(error: ValidationError) -> dict[str, str]:
    """Return one sentence per wrong field, by its dotted path."""
    found: dict[str, str] = {}
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        found.setdefault(place, _sentence(item["msg"], item["type"]))
    return found


def _sentence(message: str, kind: str) -> str:
    if kind == "missing":
        return "Fill this in."
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return text[:1].upper() + text[1:].rstrip(".") + "."


def with_error(form: Form, error: AppError) -> Form:
    """Return ``form`` with a service's error: at its fields, else above the form."""
    at_fields = {item.field: item.message[:1].upper() + item.message[1:] for item in error.errors}
    return Form(form.values, {**form.errors, **at_fields}, None if at_fields else error.detail)


async def read_form(request: Request) -> FormData:
    """Return the posted form; a dependency, so that pages stay synchronous."""
    return await request.form()
