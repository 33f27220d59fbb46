"""The spots of parts in JSON text are where a parser finds them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.check.spots import Spots
from app.datasets.formats.base import Path

_names = st.sampled_from(["a", "b", 'q"[', "é", ""])
_values = st.recursive(
    st.none() | st.integers() | st.sampled_from(['x,"]}', "", "\\", "{[", "\n"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=20,
)


def _paths(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    if isinstance(value, list):
        pairs = list(enumerate(value))
    return [
        (path, value),
        *(found for step, part in pairs for found in _paths(part, (*path, step))),
    ]


@given(_values, st.booleans(), st.sampled_from([None, 1]))
def test_a_spot_is_the_part_that_its_path_names(
    value: Any, ascii_only: bool, indent: int | None
) -> None:
    text = " " + json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    asked = _paths(value)[1:]
    spots = Spots(text, [path for path, _ in asked])

    for path, part in asked:
        start, end = spots.of(path)
        written = text[start:end]
        if isinstance(path[-1], str):
            assert json.loads("{" + written + "}") == {path[-1]: part}
        else:
            assert json.loads(written) == part


@given(_values.flatmap(lambda value: st.tuples(st.just(value), st.sampled_from(_paths(value)))))
def test_a_part_is_found_whatever_else_is_asked_for(drawn: tuple[Any, tuple[Path, Any]]) -> None:
    value, (path, _) = drawn
    text = json.dumps(value)

    alone = Spots(text, [path])

    assert alone.of(path) == Spots(text, [each for each, _ in _paths(value)]).of(path)


@pytest.mark.parametrize(
    ("text", "path", "spot"),
    [
        ('{"a": [1, 2], "a": [3]}', ("a", 0), "3"),
        ('{"a": [1, 2], "a": [3]}', ("a", 1), '"a": [3]'),
        ('{"a": {"b": 1}, "a": 5}', ("a", "b"), '"a": 5'),
        ('{"\\u0061": 1}', ("a",), '"\\u0061": 1'),
        ("[1]", ("a",), ""),
        ("", ("a",), ""),
    ],
)
def test_what_is_not_there_is_the_part_that_would_hold_it(text: str, path: Path, spot: str) -> None:
    start, end = Spots(text, [path]).of(path)

    assert text[start:end] == spot


def test_only_what_was_asked_for_is_known() -> None:
    with pytest.raises(KeyError):
        Spots('{"a": 1}', []).of(("a",))
