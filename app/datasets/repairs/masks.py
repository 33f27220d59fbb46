"""Repairs that put a placeholder in the place of secrets and personal data. Pure.

Only the value within its string is replaced: the row stays valid JSON, and all else as it is. Rows
that are no JSON stay: they are never trained.
"""

from collections.abc import Sequence

import numpy as np

from app.datasets.check.signs import rows_with_signs
from app.datasets.formats.base import Path
from app.datasets.formats.personal import CARD, EMAIL, PHONE, find_personal
from app.datasets.formats.secrets import secret_spans
from app.datasets.formats.text import UNTRAINED
from app.datasets.problems import Code
from app.datasets.repairs.base import Draft, Repair, plain
from app.datasets.repairs.spots import Edit, Find, within_strings

_FIRST = np.zeros(1, dtype=np.int64)  # a row by itself begins at its start
SECRET = "[SECRET]"  # noqa: S105  # what stands in the place of one
PLACEHOLDERS = {EMAIL: "[EMAIL]", PHONE: "[PHONE]", CARD: "[CARD]"}


def without_secrets(text: str) -> str:
    """Return a row, valid JSON, with a placeholder for each key in its values."""
    return _until_clean(text, _secrets)


def without_personal(text: str, untrained: frozenset[str] = UNTRAINED) -> str:
    """Return a row, valid JSON, with placeholders for personal data where it is trained on."""

    def find(value: str, path: Path) -> Sequence[Edit]:
        if not path or path[0] in untrained:
            return ()
        found = find_personal(value)
        return [(one.start, one.end, PLACEHOLDERS[one.kind]) for one in found]

    return _until_clean(text, find)


def _secrets(value: str, _path: Path) -> Sequence[Edit]:
    return [(start, end, SECRET) for start, end in secret_spans(value)]


def _until_clean(text: str, find: Find) -> str:
    """Return what is left when nothing more is found; a placeholder may uncover a neighbour."""
    while (changed := within_strings(text, find)) != text:
        text = changed
    return text


def _mask_secrets(draft: Draft) -> None:
    if not _may_hold(draft) or draft.data is None:
        return
    text = draft.data.decode()
    masked = without_secrets(text)
    if masked != text:
        draft.replace(masked.encode())


def _mask_personal(draft: Draft) -> None:
    if not _may_hold(draft) or draft.data is None:
        return
    text = draft.data.decode()
    mapped = {theirs: ours for ours, theirs in draft.mapping.items()}
    untrained = frozenset(UNTRAINED - mapped.keys())
    masked = without_personal(text, untrained)
    if masked != text:
        draft.replace(masked.encode())


def _may_hold(draft: Draft) -> bool:
    if draft.is_flawless or draft.data is None or not rows_with_signs(draft.data, _FIRST):
        return False
    return draft.row is not None and not draft.faults


MASK_SECRETS = Repair(
    "mask_secrets",
    "Mask keys and passwords",
    f"Writes {SECRET} in the place of each key of a known maker and each private key.",
    (Code.POSSIBLE_SECRET,),
    plain(_mask_secrets),
)
MASK_PERSONAL = Repair(
    "mask_personal",
    "Mask personal data",
    "Writes [EMAIL], [PHONE] or [CARD] in the place of addresses, phone and card numbers.",
    (Code.PERSONAL_DATA,),
    plain(_mask_personal),
)
