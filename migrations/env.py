"""Run migrations on the database that the settings or the caller name.

A caller in this process passes an open connection in ``config.attributes["connection"]``.
"""

from alembic import context
from sqlalchemy import Connection

from app.kit.db import get_engine
from app.settings import get_settings
from app.tables import metadata


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    url = context.config.get_main_option("sqlalchemy.url") or get_settings().database_url
    if not url:
        raise SystemExit("Set DATABASE_URL, or use `tunebox migrate`, which starts Postgres.")
    with get_engine(url).connect() as connection:
        _migrate(connection)
        connection.commit()


_run()
