"""Whatever is written into the audit trail is read as a sentence."""

import re
from pathlib import Path

from web.audit_words import SENTENCES

ACTION = re.compile(r'(?:action=|_audit\(session, actor, )"([a-z_]+\.[a-z_]+)"')


def test_every_action_has_a_sentence() -> None:
    written = {
        action for path in Path("app").rglob("*.py") for action in ACTION.findall(path.read_text())
    }

    assert len(written) > 10
    assert written - SENTENCES.keys() == set()
