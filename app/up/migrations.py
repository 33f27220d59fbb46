"""Bring a database to this code's version. Knows Alembic, and no table of ours."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from app.errors import Conflict, Unavailable
from app.kit.db import normalised

FOLDER = Path(__file__).parents[2] / "migrations"
_ADVISORY_LOCK = 7_226_301  # any number, the same in every version: one migration at a time


def configuration() -> Config:
    """Return Alembic's configuration, wherever the process was started."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config


def upgrade(url: str) -> bool:
    """Migrate to the newest version; return whether the database was empty before.

    Two processes may call this at once: the second waits, then finds nothing to do.
    """
    engine = create_engine(normalised(url), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            config = configuration()
            fresh = not _known_heads(connection, config)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return fresh
    except OperationalError as error:
        raise Unavailable(
            f"The database does not answer ({_first_line(error)}); check DATABASE_URL."
        ) from error
    finally:
        engine.dispose()


def _known_heads(connection: Connection, config: Config) -> tuple[str, ...]:
    """Return the database's versions, refusing those that this code has never heard of."""
    heads = MigrationContext.configure(connection).get_current_heads()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if unknown := set(heads) - known:
        raise Conflict(
            f"The database is at version {', '.join(sorted(unknown))}, newer than this code; "
            "update the code, or restore the back-up made before the upgrade.",
            code="database_newer",
        )
    return heads


def _first_line(error: OperationalError) -> str:
    return str(error.orig).strip().splitlines()[0]
