"""Migrations: how the database becomes what `ledger.schema` declares, step by step, forwards only.

`migrate(url)` or `python -m ledger.migrations` (DATABASE_URL). A test compares the outcome with the declaration.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

LOCK_TIMEOUT = "10s"


def migrate(database_url: str) -> None:
    """Bring the database to the newest version, in one transaction; harmless when it is there already.

    `database_url` is a libpq URL of the user who owns the tables; it must be allowed to create roles unless the role
    `meterbook_app` exists. Concurrent calls wait for each other.
    """
    engine = sa.create_engine(
        sa.make_url(database_url).set(drivername="postgresql+psycopg"),
        poolclass=sa.NullPool,
    )
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('ledger.migrations'))"))
        connection.execute(sa.text(f"set local lock_timeout = '{LOCK_TIMEOUT}'"))
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
    engine.dispose()
