"""Versions whose rows were compared, for tests of what is alike in them."""

import random
from typing import Any

from sqlalchemy.orm import Session

from app.datasets.alike.similarity import RowSource, TurnsOf, find
from app.datasets.models import DatasetVersion
from app.datasets.table import TableReader
from app.kit.storage import get_storage
from app.settings import get_settings
from tests.fixtures import builders

DATASETS = "/api/v1/datasets"
WORDS = [f"word{number}" for number in range(300)]


def text(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def row(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {**builders.conversation(question, answer), **more}


def made(session: Session, rows: list[Any], **columns: Any) -> DatasetVersion:
    """A checked version of these rows, with bands and groups."""
    version = builders.create_dataset_version(session, content=builders.jsonl(rows), **columns)
    compare(version)
    return version


def compare(version: DatasetVersion) -> None:
    storage = get_storage(get_settings())
    with (
        storage.open(version.rows_key) as rows,
        storage.open(version.table_key) as table,
        storage.open(version.bands_key, "wb") as bands,
        storage.open(version.groups_key, "wb") as groups,
    ):

        def read(offset: int, size: int) -> bytes:
            rows.seek(offset)
            return rows.read(size)

        source = RowSource(read, TurnsOf("messages"))
        list(find(source, TableReader(table), bands=bands, groups=groups))


def another(session: Session, of: DatasetVersion, rows: list[Any]) -> DatasetVersion:
    """A second version of the same dataset."""
    version = made(session, rows)
    version.dataset_id, version.number = of.dataset_id, 2
    session.flush()
    return version


def url(version: DatasetVersion, what: str) -> str:
    return f"{DATASETS}/{version.dataset_id}/{what}"


NEAR = text(1) + " more"
MIXED = [
    row("First?", text(0), topic="a", part="train"),
    row("Second?", text(1), topic="b", part="train"),
    row("Second?", text(1), topic="b", part="train"),
    row("Second?", NEAR, topic="c", part="Test"),
    *[row(f"{text(n, 8)}?", text(n), topic="abc"[n % 3], part="train") for n in range(10, 26)],
]
