"""The check of a file on this machine, as `tunebox validate` prints it. No database, no HTTP."""

import json
from collections.abc import Sequence
from pathlib import Path

from app.datasets.problems import CATALOGUE, Code, Problem
from app.datasets.validation import Report, validate


def check(path: Path) -> tuple[Report, list[Problem]]:
    """Return the report and the problems of a file, by line."""
    problems: list[Problem] = []
    with path.open("rb") as stream:
        report = validate(stream, emit=problems.append)
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
