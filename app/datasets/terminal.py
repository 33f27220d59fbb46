"""The check of a file on this machine, as `tunebox validate` prints it. No database, no HTTP."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from app.datasets.intake import Limits, identify
from app.datasets.problems import CATALOGUE, Code, Problem
from app.datasets.stages import Asked, first_stage, processes, second_stage
from app.datasets.validation import Report


def check(
    path: Path, *, declared: str | None = None, deep: bool = False
) -> tuple[Report, list[Problem]]:
    """Return the report and the problems of a file, by line; ``deep`` adds near duplicates.

    Raises ``NoSpace`` where a packed file does not fit on the disk.
    """
    with path.open("rb") as stream:
        return check_stream(stream, declared=declared, deep=deep)


def check_stream(
    stream: IO[bytes], *, declared: str | None = None, deep: bool = False
) -> tuple[Report, list[Problem]]:
    """Return the report and the problems of a seekable stream, as ``check`` does."""
    problems: list[Problem] = []
    with tempfile.TemporaryDirectory(prefix="tunebox-") as made:
        folder = Path(made)
        asked = Asked(declared, processes=processes(), limits=Limits(folder=folder), folder=folder)
        identified = identify(stream)

        def open_rows(mode: str) -> IO[bytes]:
            return stream if identified.is_plain else (folder / "rows").open(mode)

        with (folder / "table").open("w+b") as table:
            report = first_stage(
                stream,
                identified,
                asked=asked,
                open_rows=open_rows,
                table=table,
                emit=problems.append,
            )
            if deep and report.format is not None:
                rows = open_rows("rb")
                with (folder / "bands").open("wb") as bands:
                    second_stage(
                        rows,
                        report,
                        asked=asked,
                        table=table,
                        bands=bands,
                        groups=None,
                        emit=problems.append,
                    )
                if rows is not stream:
                    rows.close()
    return report, sorted(problems, key=lambda problem: problem.line)


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
