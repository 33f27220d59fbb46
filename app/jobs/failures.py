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
    """Return what is stored and shown of a failure: the kind's text and this job's evidence."""
    text = FAILURES[kind]
    return {
        "kind": kind.value,
        "title": text.title,
        "explanation": detail or text.explanation,
        "evidence": evidence,
        "next_step": text.next_step,
        "changes": changes or {},
    }
