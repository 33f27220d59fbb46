"""Rows that are unlike the rest: in another language, or far longer. Pure: reads opened rows.

Looked for once a version's rows are known: languages from 50 rows on, lengths from 1,000 on, for
fewer do not show how long one in a thousand may be, and a row of 1 MB is fine by itself. Told as
warnings, so only what is plain to see is told; of a large version some rows, evenly spread, are
looked at for their language.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.datasets.check.excerpts import Excerpts
from app.datasets.check.languages import NAMES, are_alike, language_of, letters, prose
from app.datasets.formats.base import Turn
from app.datasets.problems import Code, Problem
from app.datasets.table import HAS_ERROR, RowPlace, TableReader

FEWEST_ROWS, FEWEST_LENGTHS = 50, 1_000
LOOKED_AT = 10_000  # rows of which the language is looked at
_FEWEST_LETTERS = 40
_FEWEST_IN_PIECE = 20
_PIECE = 300  # characters
_PIECES = 6  # of a row
_SURE_OF_ROW = 0.95
_EXCERPT_BYTES = 20_000
_RARE, _MAIN = 0.02, 0.9

_TIMES_MEDIAN = 20
_SPREADS = 6  # in the logarithm: as far from the median as one in a billion, were lengths normal
_NORMAL = 1.4826  # the median distance from the median, as a standard deviation
_QUANTILE = 0.999

Progress = Callable[[float], None]


class RowSource(Protocol):
    """What is asked of a version's rows."""

    table: TableReader

    def place(self, number: int) -> RowPlace:
        """Return where a row lies."""
        ...

    def data(self, place: RowPlace) -> bytes:
        """Return a row's bytes."""
        ...

    def turns(self, place: RowPlace) -> Sequence[Turn]:
        """Return the readable turns of a row."""
        ...


@dataclass
class Outliers:
    """The rows that stand out, and what is to be said of languages in the statistics."""

    problems: list[Problem] = field(default_factory=list[Problem])
    statistics: dict[str, Any] = field(default_factory=dict[str, Any])


def find(rows: RowSource, *, progress: Progress = lambda _share: None) -> Outliers:
    """Return what stands out among the good rows. ``progress`` hears the share that is done."""
    good, sizes = _good(rows.table)
    languages = _languages(rows, _spread(good), progress)
    found = Outliers(statistics=_statistics(languages, len(good)))
    if len(good) >= FEWEST_ROWS:
        found.problems += _odd_languages(rows, languages)
    if len(good) >= FEWEST_LENGTHS:
        found.problems += _odd_lengths(rows, good, sizes)
    found.problems.sort(key=lambda problem: problem.line)
    return found


def _good(table: TableReader) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Return the places of the rows without errors, and their sizes."""
    places: list[npt.NDArray[np.int64]] = []
    sizes: list[npt.NDArray[np.uint32]] = []
    for first, records in table.blocks():
        at = np.flatnonzero(records["flags"] & HAS_ERROR == 0)
        places.append(at + first)
        sizes.append(records["size"][at])
    if not places:
        return np.empty(0, np.int64), np.empty(0, np.uint32)
    return np.concatenate(places), np.concatenate(sizes)


def _spread(good: npt.NDArray[np.int64]) -> list[int]:
    """Return all places, or as many as are looked at, evenly spread."""
    if len(good) <= LOOKED_AT:
        return good.tolist()
    return good[np.linspace(0, len(good) - 1, LOOKED_AT).astype(np.int64)].tolist()


def _languages(rows: RowSource, places: Sequence[int], progress: Progress) -> dict[int, str | None]:
    """Return the language of each of these rows, None where it has none or several."""
    found: dict[int, str | None] = {}
    for number, place in enumerate(places):
        found[place] = row_language(rows.turns(rows.place(place)))
        if number % 100 == 0:
            progress(number / len(places))
    return found


def row_language(turns: Sequence[Turn]) -> str | None:
    """Return the language of a row, or None; what the system says does not count."""
    texts = [prose(turn.text) for turn in turns if turn.role in {"user", "assistant"}]
    whole = " ".join(text for text in texts if text)
    return language_of(whole) if letters(whole[:_PIECE]) >= _FEWEST_LETTERS else None


def _is_wholly(language: str, turns: Sequence[Turn]) -> bool:
    """Tell whether every piece of a row that is long enough is surely in ``language``."""
    texts = [prose(turn.text) for turn in turns if turn.role != "tool"]
    pieces = [piece for text in texts for piece in _pieces(text)][:_PIECES]
    return bool(pieces) and all(
        language_of(piece, sure=_SURE_OF_ROW) == language for piece in pieces
    )


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        if letters(piece) >= _FEWEST_IN_PIECE:
            yield piece


def _statistics(languages: dict[int, str | None], rows: int) -> dict[str, Any]:
    counts = Counter(language for language in languages.values() if language is not None)
    known = sum(counts.values())
    return {
        "languages": [
            {"code": code, "name": NAMES[code], "rows": count, "share": round(count / known, 4)}
            for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ],
        "languages_looked_at": len(languages),
        "languages_known": known,
        "languages_sampled": len(languages) < rows,
    }


def _odd_languages(rows: RowSource, languages: dict[int, str | None]) -> Iterator[Problem]:
    counts = Counter(language for language in languages.values() if language is not None)
    known = sum(counts.values())
    if known < FEWEST_ROWS:
        return
    main, most = counts.most_common(1)[0]
    if most <= _MAIN * known:
        return
    for number, language in languages.items():
        if language is None or counts[language] >= _RARE * known or are_alike(language, main):
            continue
        place = rows.place(number)
        if _is_wholly(language, rows.turns(place)):
            message = f"The row is in {NAMES[language]}, {most / known:.0%} are in {NAMES[main]}."
            yield _problem(rows, place, Code.LANGUAGE_OUTLIER, message)


def _odd_lengths(
    rows: RowSource, good: npt.NDArray[np.int64], sizes: npt.NDArray[np.uint32]
) -> Iterator[Problem]:
    median = max(1.0, float(np.median(sizes)))
    logarithms = np.log(np.maximum(sizes, 1))
    spread = float(np.median(np.abs(logarithms - np.log(median)))) * _NORMAL
    bound = max(
        median * _TIMES_MEDIAN,
        float(np.exp(np.log(median) + _SPREADS * spread)),
        float(np.quantile(sizes, _QUANTILE)),
    )
    for at in np.flatnonzero(sizes > bound).tolist():
        size = int(sizes[at])
        times = f"{size / median:,.0f} times the median of {median:,.0f}"
        message = f"The row has {size:,} bytes, {times}."
        yield _problem(rows, rows.place(int(good[at])), Code.LENGTH_OUTLIER, message)


def _problem(rows: RowSource, place: RowPlace, code: Code, message: str) -> Problem:
    text = rows.data(place)[:_EXCERPT_BYTES].decode("utf-8", "replace")
    return Problem(place.line, code, message, *Excerpts(text).at(0, 0))
