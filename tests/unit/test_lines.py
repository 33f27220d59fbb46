"""Lines come whole and numbered, however they are read; one that is too long costs no memory."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.check import lines
from app.datasets.check.lines import Line, views

LIMIT = 12


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", LIMIT)


def expected(content: bytes) -> list[Line]:
    """Return the lines of a text that is at hand as a whole."""
    found: list[Line] = []
    offset = 0
    pieces = content.split(b"\n")
    for number, piece in enumerate(pieces, start=1):
        ending = b"" if number == len(pieces) else b"\r\n" if piece.endswith(b"\r") else b"\n"
        data = piece.removesuffix(b"\r") if ending else piece
        if piece or ending:
            kept = data if len(data) <= LIMIT else None
            found.append(Line(number, kept, ending, len(data), offset))
        offset += len(piece) + 1
    return found


PIECES = st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r\n", b"\r", b"x" * 9, b"y" * 30]))


@given(PIECES.map(b"".join), st.integers(1, 20))
def test_lines_are_those_of_the_whole_text(content: bytes, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_READ_BYTES", size)
        found = list(lines.lines(io.BytesIO(content)))

    wanted = expected(content)
    assert [(one.number, one.data, one.size, one.offset) for one in found] == [
        (one.number, one.data, one.size, one.offset) for one in wanted
    ]
    assert [one.ending for one in found if one.data is not None] == [
        one.ending for one in wanted if one.data is not None
    ]


@given(PIECES.map(b"".join), st.integers(0, 60))
def test_a_part_of_a_file_has_the_lines_between_two_places(content: bytes, end: int) -> None:
    start = content.rfind(b"\n", 0, min(end, len(content))) + 1
    stream = io.BytesIO(content)
    stream.seek(start)

    found = [(view.offset, view.size) for view in views(stream, start, len(content))]

    assert sum(size for _, size in found) <= len(content) - start
    assert all(start <= offset < max(1, len(content)) for offset, _ in found)
