"""Collects the fixtures, and does nothing else."""

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.database",
    "tests.fixtures.client",
]
