"""What validation promises of whole files: all faults, true counts, exact places, no crash."""

import io
import json
import tracemalloc
from pathlib import Path
from typing import IO, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from app.datasets.check.validation import validate
from app.datasets.problems import DETAIL_PER_CODE, Code
from tests.unit.containers import downloaded
from tests.unit.test_validation_cases import (
    ANSWER,
    GOOD,
    RAISES,
    SIXTY,
    USER,
    answered,
    check,
    codes,
    line,
    lines,
    said,
)


def test_every_fault_of_a_row_is_reported() -> None:
    row = line({"role": "bot"}, {"role": "user", "content": 1}, {**ANSWER, "weight": 3}, extra=1)

    assert [code for _, code in codes(row)] == [
        "unknown_role",
        "missing_content",
        "content_not_text",
        "bad_weight",
        "unknown_key",
    ]


def test_checking_goes_on_after_any_row() -> None:
    faults = [RAISES[code][0] for code in (Code.INVALID_JSON, Code.LINE_TOO_LONG, Code.NOT_UTF8)]

    found = codes(lines(GOOD, *faults, said("Last?"), b"{"))

    assert found == [
        (2, "invalid_json"),
        (3, "line_too_long"),
        (4, "not_utf8"),
        (6, "invalid_json"),
    ]


class LongLine(io.RawIOBase):
    """A line of 100 MB that is never held as a whole, then a good row."""

    chunks = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return up to a megabyte at a time, whatever is asked for."""
        del size
        self.chunks += 1
        return (
            b"x" * 1_000_000 if self.chunks <= 100 else b"" if self.chunks > 101 else b"\n" + GOOD
        )

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Begin again."""
        del whence
        self.chunks = 0
        return offset


def test_a_line_of_a_hundred_megabytes_is_passed_over_in_constant_memory() -> None:
    tracemalloc.start()
    found: list[tuple[int, Code]] = []

    report = validate(
        cast("IO[bytes]", LongLine()),
        emit=lambda problem: found.append((problem.line, problem.code)),
    )

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [(1, Code.LINE_TOO_LONG)]
    assert (report.bad_lines.tolist(), report.examples) == ([1], 1)
    assert peak < 64 * 2**20


def test_bad_bytes_are_named_with_their_place() -> None:
    _, (problem, *_) = check(lines(GOOD, b'{"messages": "\xff"}'))

    assert (problem.line, problem.code) == (2, Code.NOT_UTF8)
    assert problem.message == "Byte 15 of the line, 0xFF, is not UTF-8."


def test_a_row_over_several_lines_is_invalid_on_each() -> None:
    pretty = json.dumps(json.loads(GOOD), indent=1).encode()

    assert {code for _, code in codes(lines(GOOD, pretty))} == {"invalid_json"}


def test_copies_are_named_but_for_the_first_whatever_the_order_of_keys() -> None:
    other = (
        b'{"messages":[{"content":"Where is my parcel?","role":"user"},' + GOOD.split(b", ", 2)[2]
    )

    assert codes(lines(GOOD, said("Is it new?"), GOOD, other)) == [
        (3, "duplicate_row"),
        (4, "duplicate_row"),
    ]


def test_a_near_duplicate_names_the_other_line() -> None:
    _, (problem,) = check(lines(GOOD, said(SIXTY), said(SIXTY + " more")))

    assert (problem.line, problem.code) == (3, Code.NEAR_DUPLICATE)
    assert problem.message == "The row reads almost as line 2."


def test_a_secret_shows_four_characters_in_every_excerpt() -> None:
    secret = "ghp_" + "a1B2" * 9
    row = line(
        {**USER, "content": f"x\n{secret}"}, {"role": secret, "content": secret}, **{secret: 1}
    )

    for problem in check(lines(GOOD, row))[1]:
        assert secret[:8] not in problem.excerpt + problem.message


def test_the_spot_is_marked_within_the_excerpt() -> None:
    row = line({**USER, "content": "word " * 500}, {"role": "bot", "content": "Hello there"})

    _, (problem,) = check(row)

    assert problem.excerpt[problem.mark_start : problem.mark_end] == '"role": "bot"'
    assert problem.excerpt.startswith("…")


def test_counts_are_true_where_detail_ends() -> None:
    rows = DETAIL_PER_CODE + 500

    report, problems = check(b"[1]\n" * rows)

    assert report.by_code[Code.NOT_AN_OBJECT] == report.errors == len(report.bad_lines) == rows
    assert len(problems) == DETAIL_PER_CODE


def test_the_cleaned_file_keeps_good_rows_byte_for_byte() -> None:
    odd = b'{ "messages" :' + GOOD[12:-1] + b" }"
    content = b"\xef\xbb\xbf" + odd + b"\r\n\r\n[1]\n \n" + said("Is it a?") + b"\n{}\n" + GOOD

    rest = downloaded(content)
    assert rest == odd + b"\r\n" + said("Is it a?") + b"\n" + GOOD


def test_statistics_count_rows_without_errors() -> None:
    report, _ = check(lines(GOOD, line(USER), answered("A long answer.")))

    assert report.examples == report.statistics["rows"] == 2
    assert report.statistics["turns_by_role"] == {"user": 2, "assistant": 2}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([c for cases in RAISES.values() for c in cases if len(c) < 5000]),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_no_bytes_make_it_crash(parts: list[bytes], data: st.DataObject) -> None:
    content = bytearray(b"\n".join(parts))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    report, problems = check(bytes(content))

    assert all(problem.line >= 1 for problem in problems)
    if report.format and report.examples:
        rest = downloaded(bytes(content))
        assert check(rest)[0].errors == 0


def test_the_docs_list_is_what_the_catalogue_says() -> None:
    assert "| code | what it means | what to do |" in Path("docs/problems.md").read_text("utf-8")
