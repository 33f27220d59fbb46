"""An audit row as a sentence. Pure: knows no database and no page.

An action that has no sentence here is shown by its name, so nothing is ever hidden.
"""

from collections.abc import Mapping
from typing import Any

# {name} and the like come from the row's detail; {subject} is the subject's present name or id.
SENTENCES: Mapping[str, str] = {
    "user.create": "joined as {role}",
    "user.invite": "invited {subject} as {role}",
    "user.role": "made {subject} {to}, was {from}",
    "user.disable": "disabled {subject}",
    "user.enable": "let {subject} in again",
    "password.change": "changed the password",
    "sessions.end": "signed out other browsers",
    "token.create": "made the API token {name} ({scope})",
    "token.revoke": "revoked the API token {name}",
    "run.create": "launched {name}",
    "run.stop": "stopped {subject}",
    "run.pause": "paused {subject}",
    "run.resume": "resumed {subject}",
    "run.retry": "retried {subject}",
    "run.delete": "deleted {name}",
    "preflight.create": "tried {name} on a device ({mode})",
    "sweep.create": "launched the sweep {name} ({runs} runs)",
    "sweep.stop": "stopped the sweep {name}",
    "dataset.upload": "uploaded {name} v{version}",
    "dataset.describe": "said what the rows of {name} v{version} are",
    "dataset.repair": "repaired {name} v{parent} as v{version}",
    "dataset.split": "split {name} v{version} ({method})",
    "dataset.delete_split": "deleted a split of {name} v{version}",
    "dataset.delete": "deleted the dataset {name}",
    "base_model.register": "added the model {name}",
    "base_model.download": "downloads the model {name}",
    "base_model.delete": "deleted the model {name}",
    "job.stop": "stopped {subject}",
}


def sentence(action: str, *, subject: str, detail: Mapping[str, Any]) -> str:
    """Return what was done, to stand behind the person's name."""
    words = {"subject": subject or "someone", **{key: str(value) for key, value in detail.items()}}
    pattern = SENTENCES.get(action, f"{action} {{subject}}")
    return pattern.format_map(_Missing(words))


class _Missing(dict[str, str]):
    """Words for a sentence; one that the row lacks is left out as an ellipsis."""

    def __missing__(self, key: str) -> str:
        return "…"
