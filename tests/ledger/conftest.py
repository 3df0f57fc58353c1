"""Fixtures of the ledger's tests."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from tests.ledger.usage import open_shop


@pytest.fixture
def shop(engine: sa.Engine) -> Iterator[sa.Connection]:
    """An open transaction in a database where northwind sells to acme; see `open_shop`."""
    with engine.begin() as connection:
        open_shop(connection)
    with engine.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def common_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """The URL, with its owner's rights, of a migrated database for the tests of a module that undo what they do."""
    name = f"common_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'create database "{name}" template "{template_database}"')
    yield sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'drop database if exists "{name}" with (force)')
