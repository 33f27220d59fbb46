"""Results that follow from immutable versions alone, kept in the storage once they are made.

Knows arrays of numbers; ``overlap`` and ``difference`` know what they mean.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from app.datasets.models import DatasetVersion
from app.kit.ids import new_id
from app.kit.storage import Storage

Arrays = Mapping[str, npt.NDArray[Any]]


def kept(
    storage: Storage,
    kind: str,
    versions: tuple[DatasetVersion, DatasetVersion],
    make: Callable[[], Arrays],
) -> Arrays:
    """Return what ``make`` makes of two versions, from the first one's folder if it is there.

    A version that was checked anew, since someone said what its rows are, is another one.
    """
    names = " ".join(f"{version.id} {version.checked_at}" for version in versions)
    key = f"{versions[0].folder}/{kind}-{xxhash.xxh3_64_hexdigest(names)}"
    if storage.exists(key):
        with storage.open(key) as source:
            return dict(np.load(io.BytesIO(source.read()), allow_pickle=False))
    made = make()
    written = io.BytesIO()
    np.savez(written, **made)  # pyright: ignore[reportArgumentType]  # its own keyword is a flag
    partly = f"{key}-{new_id('part')}"
    with storage.open(partly, "wb") as target:
        target.write(written.getvalue())
    storage.move(partly, key)
    return made
