"""Fixtures shared by all tests: a real PostgreSQL with a fresh, migrated database per test."""

import os
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from ledger.database import create_engine
from ledger.migrations import migrate


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """A server's URL with superuser rights."""
    return os.environ["METERBOOK_TEST_POSTGRES"]


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database that the others are copied from."""
    name = f"template_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'create database "{name}"')
        migrate(_with_database(postgres_url, name))
        yield name
        server.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """The URL of a fresh, migrated database that only this test sees."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'create database "{name}" template "{template_database}"')
        yield _with_database(postgres_url, name)
        server.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on the test's own database, working as the application role."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def _with_database(url: str, name: str) -> str:
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)
