"""A JSON array of rows, written in any way: on one line, a row a line, pretty-printed. Pure.

The array is never held as a whole. Only its outer structure is read here (``elements``); whether a
row is valid JSON is seen later.
"""

from collections.abc import Iterator
from typing import IO

from app.datasets.check.lines import BOM
from app.datasets.check.rows import parse
from app.datasets.containers.base import MARK, Fault, Interrupted, IsBad, Item, Note, marked
from app.datasets.containers.elements import Element, Elements
from app.datasets.containers.jsonl import too_long
from app.datasets.problems import Code


class JsonArray:
    """One JSON list whose elements are the rows."""

    name = "json"
    title = "JSON array"
    media_type = "application/json"
    ending = "json"

    def items(self, stream: IO[bytes]) -> Iterator[Item | Note]:
        """Yield every element on one line: its own line breaks become CR, which JSON takes too."""
        for element in Elements(stream):
            yield element if isinstance(element, Note) else Item(element.line, _row(element))

    def cleaned(self, stream: IO[bytes], is_bad: IsBad) -> Iterator[bytes]:
        """Yield an array of the good elements byte for byte, with the space before each."""
        place, separator = -1, b"["
        try:
            for element in Elements(stream):
                if isinstance(element, Note):
                    continue
                place += 1
                if element.data is not None and not is_bad(place):
                    yield separator + element.before + element.data
                    separator = b","
        except Interrupted:
            pass  # what came before the break is the array
        yield b"[]\n" if separator == b"[" else b"\n]\n"


def _row(element: Element) -> bytes:
    if element.data is None:
        return marked(too_long(element.size))
    if element.is_whole and not element.data.startswith((MARK, BOM)):
        return element.data.replace(b"\n", b"\r")
    return marked(_fault(element.data, is_last=element.is_last))


def _fault(data: bytes, *, is_last: bool) -> Fault:
    """Return what is wrong with an element whose brackets or strings do not fit."""
    text = data.decode(errors="replace")
    if is_last:
        return Fault(Code.INVALID_JSON, "the file ends before the row does", text, 0, 1)
    _, faults = parse(data)
    if not faults:
        return Fault(Code.INVALID_JSON, "its brackets do not fit", text, 0, 1)
    fault = faults[0]
    message = fault.message.replace("the line ends before the row does", "the row is not closed")
    return Fault(fault.code, message, fault.text, fault.start, fault.end)
