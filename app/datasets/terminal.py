"""The check of a file on this machine, as `tunebox validate` prints it. No database, no HTTP."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.datasets.check.stages import Asked, first_stage, processes, second_stage
from app.datasets.check.validation import Report
from app.datasets.intake import Limits, identify
from app.datasets.problems import CATALOGUE, Code, Problem


@dataclass
class Checked:
    """A file that was checked, while its rows and their table still lie on the disk."""

    report: Report
    problems: list[Problem]
    rows: Path | None  # one JSON object a line; None where the whole file is refused
    table: Path

    def add(self, problems: Sequence[Problem], counts: Mapping[Code, int]) -> None:
        """Add problems that were found elsewhere, and how many there are of each code."""
        self.problems += problems
        self.problems.sort(key=lambda problem: problem.line)
        self.report.by_code.update(counts)


def check(
    path: Path, *, declared: str | None = None, deep: bool = False
) -> tuple[Report, list[Problem]]:
    """Return the report and the problems of a file, by line; ``deep`` adds the second stage.

    Raises ``NoSpace`` where a packed file does not fit on the disk.
    """
    with checked(path, declared=declared, deep=deep) as found:
        return found.report, found.problems


@contextmanager
def checked(path: Path, *, declared: str | None = None, deep: bool = False) -> Iterator[Checked]:
    """Check a file as ``check`` does; what was made of it goes when the block is left."""
    with (
        path.open("rb") as stream,
        tempfile.TemporaryDirectory(prefix="tunebox-") as folder,
        _checked(stream, Path(folder), declared=declared, deep=deep) as found,
    ):
        if found.rows is not None and not found.rows.exists():
            found.rows = path
        yield found


def check_stream(
    stream: IO[bytes], *, declared: str | None = None, deep: bool = False
) -> tuple[Report, list[Problem]]:
    """Return the report and the problems of a seekable stream, as ``check`` does."""
    with (
        tempfile.TemporaryDirectory(prefix="tunebox-") as folder,
        _checked(stream, Path(folder), declared=declared, deep=deep) as found,
    ):
        return found.report, found.problems


@contextmanager
def _checked(
    stream: IO[bytes], folder: Path, *, declared: str | None, deep: bool
) -> Iterator[Checked]:
    problems: list[Problem] = []
    asked = Asked(declared, processes=processes(), limits=Limits(folder=folder), folder=folder)
    identified, rows = identify(stream), folder / "rows"

    def open_rows(mode: str) -> IO[bytes]:
        return rows.open(mode)

    with (folder / "table").open("w+b") as table, (folder / "bands").open("wb") as bands:
        report = first_stage(
            stream,
            identified,
            asked=asked,
            open_rows=open_rows,
            table=table,
            emit=problems.append,
        )
        if deep and report.format is not None:
            with nullcontext(stream) if identified.is_plain else open_rows("rb") as opened:
                second_stage(
                    opened,
                    report,
                    asked=asked,
                    table=table,
                    bands=bands,
                    groups=None,
                    emit=problems.append,
                )
        table.flush()
        problems.sort(key=lambda problem: problem.line)
        is_refused = identified.refusal is not None
        yield Checked(report, problems, None if is_refused else rows, Path(table.name))


def json_text(report: Report, problems: Sequence[Problem]) -> str:
    """Return the report as one JSON object."""
    return json.dumps(
        {
            "status": report.status,
            "format": report.format,
            "examples": report.examples,
            "errors": report.errors,
            "warnings": report.warnings,
            "by_code": report.by_code,
            "problems": [problem.as_dict() for problem in problems],
        },
        ensure_ascii=False,
        indent=2,
    )


def as_text(path: Path, report: Report, problems: Sequence[Problem]) -> str:
    """Return a line for each problem, the cure of each code, and a summary."""
    found = [
        f"{path}:{problem.line}: {problem.severity} {problem.code}: {problem.message}"
        for problem in problems
    ]
    cures = [f"  {code} × {count:,}: {CATALOGUE[code].cure}" for code, count in _ranked(report)]
    summary = (
        f"{path}: {report.status}, good rows: {report.examples:,}, "
        f"errors: {report.errors:,}, warnings: {report.warnings:,}."
    )
    return "\n".join([*found, summary, *cures])


def _ranked(report: Report) -> list[tuple[Code, int]]:
    return sorted(report.by_code.items(), key=lambda item: (CATALOGUE[item[0]].severity, -item[1]))
