"""Every setting is documented, and every file that names a setting names one that exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[2]
NAMES = {str(field.alias) for field in Settings.model_fields.values()}
# Read by docker-compose itself, or by the servers it starts.
COMPOSE_ONLY = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "VALKEY_PASSWORD"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_readme_lists_every_setting() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line[:3] == "| `"]
    listed = {name for row in rows for name in re.findall(r"`([A-Z][A-Z_]+)`", row.split("|")[1])}
    assert listed == NAMES


def test_compose_sets_only_settings_that_exist(compose: dict[str, Any]) -> None:
    services = compose["services"].values()
    given = {name for service in services for name in service.get("environment", {})}
    assert given <= NAMES | COMPOSE_ONLY


def test_compose_reads_only_variables_that_the_example_explains() -> None:
    read = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    explained = set(re.findall(r"(?m)^([A-Z_]+)=", (ROOT / ".env.example").read_text()))
    assert read == explained


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.findall(r"\$\{[A-Z_]*PASSWORD:-[^}]+\}", text)
    assert re.findall(r"(?m)^[A-Z_]*PASSWORD=(.+)$", (ROOT / ".env.example").read_text()) == []


def test_images_set_only_settings_that_exist() -> None:
    named = set(re.findall(r"\b(TUNEBOX_[A-Z_]+)=", (ROOT / "Dockerfile").read_text()))
    assert named <= NAMES
