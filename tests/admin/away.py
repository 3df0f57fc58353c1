"""A database that is away, as PostgreSQL makes it so."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa


@contextmanager
def database_away(postgres_url: str, database_url: str) -> Iterator[None]:
    """Let nobody into the database, and whoever is in out, while the block runs."""
    name = sa.make_url(database_url).database
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'alter database "{name}" allow_connections false')
        server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        try:
            yield
        finally:
            server.execute(f'alter database "{name}" allow_connections true')
