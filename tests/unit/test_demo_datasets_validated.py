"""Validation finds in the demo datasets exactly what was put there."""

import io

from app.datasets.problems import Problem
from app.datasets.terminal import check_stream
from app.demo import language


def problems_of(text: str) -> list[Problem]:
    return check_stream(io.BytesIO(text.encode()), deep=True)[1]


def test_the_demo_dataset_has_no_problem() -> None:
    assert problems_of(language.support_tickets()) == []
    assert problems_of(language.support_tickets_preferences()) == []


def test_each_flawed_row_is_found_under_its_code_and_no_good_row_is_blamed() -> None:
    rows = language.rows_with_problems()
    promised = {(number, row.code) for number, row in enumerate(rows, 1) if row.code}

    problems = problems_of(language.support_tickets_with_problems())

    assert {(problem.line, problem.code) for problem in problems} == promised
