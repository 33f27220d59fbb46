"""What a dataset format must be able to do. Pure: knows rows as parsed JSON, no file, no line."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from app.datasets.problems import DETAIL_PER_CODE, Code

Row = Mapping[str, Any]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault within a row: where it is, and the text to mark there if it is not all of it."""

    code: Code
    message: str
    path: Path = ()
    needle: str = ""


class Findings:
    """Takes the faults of a row as they are found: counts all of them, keeps some of each code.

    A row of 16 MiB may have millions of faults: what is not kept takes no memory, and what is said
    of it is not even written.
    """

    def __init__(self, room: Callable[[Code], int] = lambda _code: DETAIL_PER_CODE) -> None:
        """Begin with none; ``room`` is asked once of each code how many are kept."""
        self.counts: Counter[Code] = Counter()
        self._kept: list[Finding] = []
        self._room, self._left = room, dict[Code, int]()

    def __iter__(self) -> Iterator[Finding]:
        """Yield what is kept, in the order in which it was found."""
        return iter(self._kept)

    def __len__(self) -> int:
        """Return how many faults there are, kept or not."""
        return self.counts.total()

    def add(self, code: Code, say: Callable[[], str], path: Path = ()) -> None:
        """Take a fault; ``say`` is asked for its message if it is kept."""
        if self._keeps(code):
            self._kept.append(Finding(code, say(), path))

    def take(self, found: Iterable[Finding]) -> None:
        """Take faults one after the other."""
        for finding in found:
            if self._keeps(finding.code):
                self._kept.append(finding)

    def _keeps(self, code: Code) -> bool:
        """Count a fault, and tell whether it is kept."""
        self.counts[code] += 1
        left = self._left.get(code)
        left = self._room(code) if left is None else left
        self._left[code] = left - 1
        return left > 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a good row: its role, as the trainer names it, and its text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column by our name, what it holds in plain words, and whether every row needs it."""

    name: str
    title: str
    required: bool = True


class DatasetFormat(Protocol):
    """A way to write examples as JSON objects. Rows come with our names for the columns."""

    name: str
    title: str
    columns: tuple[Column, ...]

    def recognises(self, row: Row) -> bool:
        """Tell whether ``row`` is meant to be of this format, right or wrong."""
        ...

    def is_whole(self, row: Row) -> bool:
        """Tell whether ``row`` has every column that this format needs."""
        ...

    def findings(self, row: Row, found: Findings | None = None) -> Findings:
        """Return ``found`` with every fault of ``row``, in the order of its parts."""
        ...

    def turns(self, row: Row) -> list[Turn]:
        """Return the readable turns of ``row``; what is broken is left out."""
        ...

    def conversation(self, row: Row) -> list[dict[str, Any]] | None:
        """Return what a chat template gets of a good row, or None if it is not one conversation.

        Each turn has ``role`` (system, user, assistant or tool) and ``content`` (text; None beside
        ``tool_calls`` only), and ``tool_calls``, ``tool_call_id``, ``name``, ``weight`` if given.
        """
        ...


def strings(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield each string within ``value`` with its path, in order, however deep it lies."""
    if type(value) is str:
        yield path, value
    # One iterator a level: millions of parts deep down must not have their paths at once.
    steps, levels = list(path), [_parts(value)]
    while levels:
        for step, part in levels[-1]:
            if type(part) is str:
                yield (*steps, step), part
            elif type(part) is dict or type(part) is list:
                steps.append(step)
                levels.append(_parts(part))
                break
        else:
            levels.pop()
            del steps[len(path) + max(0, len(levels) - 1) :]


def _parts(value: Any) -> Iterator[tuple[str | int, Any]]:
    if type(value) is dict:
        return iter(value.items())
    return iter(enumerate(value)) if type(value) is list else iter(())


def shortened(value: object, limit: int = 60) -> str:
    """Return ``value`` as JSON would show it, cut to ``limit`` characters."""
    text = _as_json(value, limit)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _as_json(value: object, limit: int) -> str:
    if isinstance(value, str):
        return '"' + value[:limit].replace("\n", "\\n") + ("…" if len(value) > limit else "") + '"'
    if isinstance(value, dict):
        return "an object with " + str(len(value)) + " keys" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int) and value.bit_length() > 4 * limit:
        return "a huge number"
    return str(value)
