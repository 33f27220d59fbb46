"""What a file costs in tokens of a model, for `tunebox validate --base-model`. No database.

Asks the trainer's own report (see ``children``) for a file that ``datasets.terminal`` has checked.
"""

import json
import tempfile
from pathlib import Path

from app.datasets.check.checking import problem
from app.datasets.formats.base import Finding
from app.datasets.problems import Code
from app.datasets.terminal import Checked
from app.tokens import children


def add_token_problems(checked: Checked, base_model: Path, *, max_length: int) -> None:
    """Add what problems the good rows have with a model: true counts, and the first with detail.

    Raises ``ReportFailed`` where the model's folder is none that can be used.
    """
    if checked.rows is None or not checked.report.examples:
        return
    request = {
        "base_model_folder": str(base_model.resolve()),
        "dataset_file": str(checked.rows.resolve()),
        "table_file": str(checked.table.resolve()),
        "format": checked.report.format,
        "max_length": max_length,
    }
    with tempfile.TemporaryDirectory(prefix="tunebox-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        found = children.report(folder, progress=lambda _share, _sentence: None)
    counts = {Code(code): int(count) for code, count in found["by_code"].items() if count}
    checked.add(
        [
            problem(one["line"], Finding(Code(one["code"]), one["message"]), None)
            for one in found["problems"]
        ],
        counts,
    )
