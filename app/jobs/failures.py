"""What is stored and shown of a failed job. Pure."""

from typing import Any

from app.jobs.state import FAILURES, FailureKind


def failure_of(
    kind: FailureKind,
    *,
    evidence: str = "",
    detail: str = "",
    changes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what is stored and shown of a failure: the kind's text and this job's evidence.

    A ``detail`` of one line says more than the kind's explanation. A traceback does not: it stands
    in the log, and neither a page nor the API shows it.
    """
    text = FAILURES[kind]
    is_sentence = bool(detail) and "\n" not in detail
    return {
        "kind": kind.value,
        "title": text.title,
        "explanation": detail if is_sentence else text.explanation,
        "evidence": evidence,
        "next_step": text.next_step,
        "changes": changes or {},
    }
