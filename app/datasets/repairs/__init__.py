"""The repairs that are offered, by name, in the order in which they are made: the door for others.

Names come before what depends on them: a row that they mend is no bad row any more, and two rows
may be copies only then.
"""

from collections.abc import Iterable, Mapping, Sequence

from app.datasets.repairs.base import Repair
from app.datasets.repairs.masks import MASK_PERSONAL, MASK_SECRETS
from app.datasets.repairs.names import KEY_NAMES, ROLE_NAMES
from app.datasets.repairs.whole import BAD_ROWS, BLANK_LINES, BOM, EXACT_DUPLICATES, PARTIAL_LINE

REPAIRS: Mapping[str, Repair] = {
    repair.name: repair
    for repair in (
        BOM,
        BLANK_LINES,
        PARTIAL_LINE,
        KEY_NAMES,
        ROLE_NAMES,
        MASK_SECRETS,
        MASK_PERSONAL,
        BAD_ROWS,
        EXACT_DUPLICATES,
    )
}


def in_order(names: Iterable[str]) -> Sequence[Repair]:
    """Return the repairs of these names, each once, in the order in which they are made."""
    wanted = set(names)
    return [repair for name, repair in REPAIRS.items() if name in wanted]
