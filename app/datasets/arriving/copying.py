"""What every way in does with a file's bytes: is there room for them, and what is their hash.

Knows no table and no HTTP, so that jobs may copy too.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import IO

from app.datasets.arriving import quota
from app.errors import TooLarge
from app.kit.storage import require_space
from app.settings import Settings

PLACE = "uploads"  # in the storage, for what is no version yet
_CHUNK_BYTES = 1 << 20


def require_size(settings: Settings, size: int) -> None:
    """Raise ``TooLarge`` or ``NoSpace`` unless a file of ``size`` bytes can be taken."""
    if size > settings.max_upload_bytes:
        raise TooLarge(
            f"The file has {quota.sized(size)}; this Tunebox takes "
            f"{quota.sized(settings.max_upload_bytes)} at most. Split it, or ask an admin to raise "
            "TUNEBOX_MAX_UPLOAD_BYTES."
        )
    require_space(settings.data_folder, size)


def hashed(
    source: IO[bytes],
    target: IO[bytes] | None = None,
    *,
    told: Callable[[int], None] = lambda _bytes: None,
) -> str:
    """Return the SHA-256 of the rest of ``source``, copying it to ``target`` if there is one.

    ``told`` hears again and again how many bytes are done.
    """
    digest, done = hashlib.sha256(), 0
    for chunk in iter(partial(source.read, _CHUNK_BYTES), b""):
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
        done += len(chunk)
        told(done)
    return digest.hexdigest()
