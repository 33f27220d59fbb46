"""Repairs that take or leave whole lines. Pure."""

import codecs

import msgspec

from app.datasets.problems import CATALOGUE, Code, Severity
from app.datasets.repairs.base import NO_HASH, Draft, Repair, Step, plain
from app.datasets.repairs.seen import Seen

_utf8 = codecs.getincrementaldecoder("utf-8")


def _bom(draft: Draft) -> None:
    draft.has_bom = False


def _blank_lines(draft: Draft) -> None:
    if draft.is_blank:
        draft.drop()


def _partial_line(draft: Draft) -> None:
    """Drop the last row if it breaks off; a row within the file that does may be mended by hand."""
    if not draft.is_last or draft.is_flawless or draft.data is None:
        return
    if _breaks_off(draft.data):
        draft.drop()


def _breaks_off(data: bytes) -> bool:
    """Tell whether a line is the start of an object, cut anywhere, be it within a character."""
    try:
        text = _utf8().decode(data)
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return data.lstrip().startswith(b"{") and "truncated" in str(error)
    return False


def _bad_rows(draft: Draft) -> None:
    if not draft.is_blank and draft.has_error:
        draft.drop()


def _exact_duplicates(expected: int) -> Step:
    seen = Seen(expected)

    def step(draft: Draft) -> None:
        if draft.data is None or draft.is_blank:
            return
        digest = draft.hash
        if digest != NO_HASH and seen.add(digest):
            draft.drop()

    return step


BOM = Repair(
    "bom",
    "Remove the byte order mark",
    "Takes three bytes from the start of the file that are no text.",
    (Code.BOM,),
    plain(_bom),
    counts_rows=True,
)
BLANK_LINES = Repair(
    "blank_lines",
    "Remove blank lines",
    "Drops lines with nothing on them, or only spaces and tabs.",
    (Code.BLANK_LINE,),
    plain(_blank_lines),
    counts_rows=True,
)
PARTIAL_LINE = Repair(
    "partial_line",
    "Drop a last row that breaks off",
    "Drops the last row if it ends in the middle, as after an export that was cut short.",
    (Code.INVALID_JSON,),
    plain(_partial_line),
)
BAD_ROWS = Repair(
    "bad_rows",
    "Drop rows with errors",
    "Drops each row that still has an error once the other repairs are made.",
    tuple(code for code, text in CATALOGUE.items() if text.severity is Severity.ERROR),
    plain(_bad_rows),
)
EXACT_DUPLICATES = Repair(
    "exact_duplicates",
    "Drop exact copies",
    "Keeps the first of rows that say the same, whatever the order of their keys.",
    (Code.DUPLICATE_ROW,),
    _exact_duplicates,
    counts_rows=True,
)
