"""The formats that are taken, by name: the door for others.

A new format is a module here with an object that fulfils ``base.DatasetFormat``, and a line below.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.datasets.formats.alpaca import ALPACA
from app.datasets.formats.base import DatasetFormat, Finding, Findings, Row
from app.datasets.formats.messages import MESSAGES
from app.datasets.formats.preference import PREFERENCE
from app.datasets.formats.prompt_completion import PROMPT_COMPLETION
from app.datasets.formats.sharegpt import SHAREGPT
from app.datasets.problems import Code

# A row that fits several is of the first.
FORMATS: Mapping[str, DatasetFormat] = {
    taken.name: taken for taken in (MESSAGES, SHAREGPT, PREFERENCE, ALPACA, PROMPT_COMPLETION)
}


def detect(rows: Sequence[Row], declared: str | None = None) -> DatasetFormat | None:
    """Return the format that most of ``rows`` are in, or the declared one.

    None where no row is recognised; ``findings`` then says of each row what it lacks.
    """
    if declared is not None:
        return FORMATS[declared]
    counts = Counter(taken.name for row in rows if (taken := recognised(row)) is not None)
    return max(
        (FORMATS[name] for name in FORMATS if counts[name]),
        key=lambda taken: counts[taken.name],
        default=None,
    )


def recognised(row: Row) -> DatasetFormat | None:
    """Return the format that ``row`` is meant to be in, or None."""
    return next((taken for taken in FORMATS.values() if taken.recognises(row)), None)


def findings(row: Row, taken: DatasetFormat | None, found: Findings | None = None) -> Findings:
    """Return ``found`` with every fault of ``row`` in a file of this format, but its text's.

    A row that is whole in another format has the one fault of being in it.
    """
    taken = taken or MESSAGES
    found = Findings() if found is None else found
    if not taken.recognises(row):
        other = recognised(row)
        if other is not None and other.is_whole(row):
            message = f"the row is in the format {other.title}, the file in {taken.title}"
            found.take([Finding(Code.MIXED_FORMATS, message)])
            return found
    return taken.findings(row, found)


def mapped(row: Row, mapping: Mapping[str, str] | None) -> Row:
    """Return ``row`` with our names for its columns: ``mapping`` is our column → the file's.

    The file's other columns are kept, but for one that has the name of a mapped column of ours.
    """
    if not mapping:
        return row
    theirs = set(mapping.values())
    kept = {key: value for key, value in row.items() if key not in theirs and key not in mapping}
    return {name: row[column] for name, column in mapping.items() if column in row} | kept


def renamed(finding: Finding, mapping: Mapping[str, str] | None) -> Finding:
    """Return ``finding`` with its path as it stands in the file, whose column has its own name."""
    column = finding.path[0] if finding.path else None
    if not mapping or column not in mapping:
        return finding
    return replace(finding, path=(mapping[str(column)], *finding.path[1:]))
