"""JSON Lines: a row a line. Pure."""

from collections.abc import Iterator
from typing import IO

from app.datasets.check.lines import BOM, LINE_LIMIT, lines
from app.datasets.containers.base import MARK, Fault, IsBad, Item, marked
from app.datasets.problems import Code


def too_long(size: int) -> Fault:
    """Return what is wrong with a row of ``size`` bytes."""
    limit = f"{LINE_LIMIT / 2**20:,.0f} MiB"
    return Fault(Code.LINE_TOO_LONG, f"the row has {size:,} bytes, more than {limit}")


class JsonLines:
    """One JSON object a line; blank lines are no rows."""

    name = "jsonl"
    title = "JSON Lines"
    media_type = "application/jsonl"
    ending = "jsonl"

    def items(self, stream: IO[bytes]) -> Iterator[Item]:
        """Yield every line as it stands, blank ones and a BOM included."""
        for line in lines(stream):
            data = marked(too_long(line.size)) if line.data is None else line.data
            if line.data and line.data.startswith(MARK):
                text = line.data.decode("utf-8", "replace")
                data = marked(Fault(Code.INVALID_JSON, "the line begins with NUL", text, 0, 1))
            yield Item(line.number, data)

    def cleaned(self, stream: IO[bytes], is_bad: IsBad) -> Iterator[bytes]:
        """Yield good rows byte for byte; BOM and blank lines go."""
        place = -1
        for line in lines(stream):
            data = line.data.removeprefix(BOM) if line.number == 1 and line.data else line.data
            if data is not None and not data.strip(b" \t\r"):
                continue
            place += 1
            if data is not None and not is_bad(place):
                yield data + line.ending
