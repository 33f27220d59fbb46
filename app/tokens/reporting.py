"""Makes a token report in a child process; the light lane runs it.

Knows no HTTP and no tokenizer: the child does, ``python -m worker.trainer report``, which fills the
cache that training reads.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy.orm import Session

from app.basemodels import service as basemodels
from app.datasets.leaving.handing import handed
from app.datasets.models import DatasetVersion, TokenReport
from app.errors import NotFound
from app.kit.clock import utc_now
from app.kit.storage import get_storage, model_folder, safe_part
from app.settings import Settings
from app.tokens import children, service

OpenSession = Callable[[], AbstractContextManager[Session]]


def make(
    open_session: OpenSession,
    *,
    settings: Settings,
    report_id: str,
    progress: children.Progress,
) -> None:
    """Count and store. Raises ``ReportFailed`` with the reason, or whatever ``progress`` raises."""
    folder = settings.data_folder / "tokens" / "requests" / safe_part(report_id)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with open_session() as session:
            report = _report(session, report_id)
            version = session.get_one(DatasetVersion, report.version_id)
            model = basemodels.get(session, model_id=report.base_model_id)
            request: dict[str, Any] = {
                **handed(get_storage(settings), version, folder),
                "base_model_folder": str(model_folder(settings, model.folder)),
                "cache_folder": str(settings.data_folder / "tokens"),
                "max_length": report.max_length,
            }
        (folder / "request.json").write_text(json.dumps(request))
        result = children.report(folder, progress=progress)
        with open_session() as session:
            service.finish(_report(session, report_id), result)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_up(session: Session, *, report_id: str, reason: str) -> None:
    """Say on the report that it could not be made."""
    report = session.get(TokenReport, report_id)
    if report is not None and report.result is None:
        report.failure, report.finished_at = reason, utc_now()


def _report(session: Session, report_id: str) -> TokenReport:
    report = session.get(TokenReport, report_id)
    if report is None:
        raise NotFound("The dataset or the model was removed before its tokens were counted.")
    return report
