"""Fixtures of the ledger's tests."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from ledger.database import create_engine
from tests.ledger.proven import World, build
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
    name = _copy_of(postgres_url, template_database)
    yield _database(postgres_url, name)
    _drop(postgres_url, name)


@pytest.fixture(scope="module")
def built(postgres_url: str, template_database: str) -> Iterator[World]:
    """The world, built once; nobody changes it."""
    name = _copy_of(postgres_url, template_database)
    engine = create_engine(_database(postgres_url, name))
    with engine.begin() as connection:
        charges = build(connection)
    engine.dispose()
    yield World(name, charges)
    _drop(postgres_url, name)


@pytest.fixture
def world(postgres_url: str, built: World) -> Iterator[World]:
    """A copy of the world, to falsify."""
    name = _copy_of(postgres_url, built.database_url)
    yield World(_database(postgres_url, name), built.charges)
    _drop(postgres_url, name)


def _database(url: str, name: str) -> str:
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


def _copy_of(server: str, template: str) -> str:
    name = f"copy_{uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{template}"')
    return name


def _drop(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')
