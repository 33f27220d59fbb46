"""The migrations make exactly the tables of the models, and each can be taken back."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from app.kit.db import get_engine
from app.tables import metadata
from app.up import migrations

OPTIONS = {"compare_type": True, "compare_server_default": True}


def _differences(connection: Connection) -> list[object]:
    return compare_metadata(MigrationContext.configure(connection, opts=OPTIONS), metadata)


def test_migrated_tables_are_the_models_tables(committed_database: str) -> None:
    with get_engine(committed_database).connect() as connection:
        assert _differences(connection) == []


def test_each_migration_goes_down_and_up_again(committed_database: str) -> None:
    config = migrations.configuration()
    steps = len(list(ScriptDirectory.from_config(config).walk_revisions()))
    with get_engine(committed_database).connect() as connection:
        config.attributes["connection"] = connection
        for _ in range(steps):
            command.downgrade(config, "-1")
        left = set(inspect(connection).get_table_names()) - {"alembic_version"}
        command.upgrade(config, "head")

        assert left == set()
        assert _differences(connection) == []
