"""The containers that are taken, by name: the door for others."""

from collections.abc import Mapping

from app.datasets.containers.base import Container
from app.datasets.containers.delimited import CSV, TSV
from app.datasets.containers.json_array import JsonArray
from app.datasets.containers.jsonl import JsonLines
from app.datasets.containers.parquet import Parquet

CONTAINERS: Mapping[str, Container] = {
    kind.name: kind for kind in (JsonLines(), JsonArray(), CSV, TSV, Parquet())
}
PARQUET = Parquet.name
