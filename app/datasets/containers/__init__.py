"""The containers that are taken, by name: the door for others."""

from collections.abc import Mapping

from app.datasets.containers.base import Container
from app.datasets.containers.jsonl import JsonLines

CONTAINERS: Mapping[str, Container] = {JsonLines.name: JsonLines()}
