"""Each repair is told in the docs in the words of the page, and names problems that it ends."""

from pathlib import Path

import pytest

from app.datasets.problems import CATALOGUE, Severity
from app.datasets.repairs import REPAIRS

DOCS = Path("docs/problems.md").read_text("utf-8")


@pytest.mark.parametrize("name", list(REPAIRS))
def test_a_repair_has_its_line_in_the_docs(name: str) -> None:
    repair = REPAIRS[name]
    codes = ", ".join(f"`{code}`" for code in repair.codes)
    errors = {code for code, text in CATALOGUE.items() if text.severity is Severity.ERROR}
    ends = "every error" if set(repair.codes) == errors else codes

    assert f"| `{name}` | {repair.what} | {ends} |" in DOCS


def test_the_docs_have_them_in_the_order_in_which_they_are_made() -> None:
    places = [DOCS.index(f"| `{name}` | {repair.what}") for name, repair in REPAIRS.items()]

    assert places == sorted(places)
