"""What an answer is worth: functions of ours, each from 0 to 1, with weights. Pure.

Never uploaded code. Knows the answer, the one that the dataset expects, and the settings; neither
models nor files. An expression that takes too long is worth nothing; a schema reaches no network.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import regex
from jsonschema import Draft202012Validator, SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from app.evaluations import scoring
from app.runs.parts import Rewards

SECONDS = 0.5  # an expression may take for an answer
Function = Callable[[str, str], float]


@dataclass(frozen=True)
class Reward:
    """A function with its weight. ``worth`` takes the answer and the expected one."""

    name: str
    weight: float
    worth: Function


def chosen(settings: Rewards) -> tuple[Reward, ...]:
    """Return the functions that have a weight. The settings have no ``problems``."""
    return tuple(
        Reward(name, weight, make(settings))
        for name, make in _FUNCTIONS.items()
        if (weight := getattr(settings, name)) > 0
    )


def problems(settings: Rewards) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with settings, by field, each with a cure."""
    if not any(getattr(settings, name) for name in _FUNCTIONS):
        yield "exact_match", "no reward has a weight, so nothing would be learned; give one"
    for text, weight in (("pattern", "regex"), ("schema_text", "json_schema")):
        if getattr(settings, weight) and getattr(settings, text) is None:
            yield text, f"{weight} has a weight and needs this"
        elif not getattr(settings, weight) and getattr(settings, text) is not None:
            yield weight, f"{text} counts only with a weight; give one, or leave {text} out"
    if settings.pattern is not None:
        try:
            regex.compile(settings.pattern)
        except regex.error as error:
            yield "pattern", f"it is no regular expression: {error}"
    if settings.schema_text is not None and (text := _schema_problem(settings.schema_text)):
        yield "schema_text", text
    if settings.most_words < settings.fewest_words:
        yield "most_words", "it is below fewest_words"


def _schema_problem(text: str) -> str | None:
    try:
        schema = json.loads(text)
        Draft202012Validator.check_schema(schema)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {error}"
    except SchemaError as error:
        return f"it is no JSON schema: {error.message[:200]}"
    return None


def _regex(settings: Rewards) -> Function:
    expression = regex.compile(settings.pattern or "")

    def worth(answer: str, _expected: str) -> float:
        try:
            return float(expression.search(answer, timeout=SECONDS) is not None)
        except TimeoutError:
            return 0.0

    return worth


def _json_schema(settings: Rewards) -> Function:
    schema: Any = json.loads(settings.schema_text or "true")
    validator = Draft202012Validator(schema, registry=Registry())

    def worth(answer: str, _expected: str) -> float:
        try:
            return float(validator.is_valid(json.loads(answer)))
        except (ValueError, RecursionError, Unresolvable):
            return 0.0

    return worth


def _length(settings: Rewards) -> Function:
    """Return 1 within the bounds; outside it falls to 0 over as many words as the bound has."""
    low, high = settings.fewest_words, settings.most_words

    def worth(answer: str, _expected: str) -> float:
        words = len(answer.split())
        if words < low:
            return words / low
        return max(0.0, 1 - (words - high) / high) if words > high else 1.0

    return worth


# By the field that holds each one's weight.
_FUNCTIONS: Mapping[str, Callable[[Rewards], Function]] = {
    "exact_match": lambda _: scoring.exact_match,
    "token_f1": lambda _: scoring.token_f1,
    "regex": _regex,
    "json_schema": _json_schema,
    "length": _length,
}
