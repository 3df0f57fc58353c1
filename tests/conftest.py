"""Fixtures shared by all tests: real servers, and a fresh, migrated database per test.

The servers are started once a session, when a test first needs them, and end with it however it ends.
METERBOOK_TEST_POSTGRES (a URL with superuser rights) and METERBOOK_TEST_TEMPORAL (host:port) name running ones instead.
"""

import gc
import os
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from infra.stack import Stack, running_stack
from infra.stack.home import CLONE
from ledger.database import create_engine
from ledger.migrations import migrate


def pytest_collection_finish() -> None:
    """Leave what was imported out of every search for garbage to come: it lives as long as the session."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def home_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give the session a home folder of its own, so that what servers write beside their data is left nowhere."""
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def server_stack() -> Iterator[Stack]:
    """The session's own stack, in a folder of its own, with no part started yet; no test cuts the power."""
    home = CLONE / ".meterbook" / f"test-{os.getpid()}"
    with running_stack(home, parts=(), environment={}, remove_home=True, durable=False) as stack:
        yield stack


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """A server's URL with superuser rights."""
    return os.environ.get("METERBOOK_TEST_POSTGRES") or _start(request, "postgres")["DATABASE_URL"]


@pytest.fixture(scope="session")
def temporal_address(request: pytest.FixtureRequest) -> str:
    """The address (host:port) of a Temporal server with the product's search attributes in the namespace `default`."""
    return os.environ.get("METERBOOK_TEST_TEMPORAL") or _start(request, "temporal")["TEMPORAL_ADDRESS"]


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database that the others are copied from; nobody may be connected to it meanwhile."""
    name = f"template_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'create database "{name}"')
    migrate(_with_database(postgres_url, name))
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """The URL of a fresh, migrated database that only this test sees."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'create database "{name}" template "{template_database}"')
    yield _with_database(postgres_url, name)
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f'drop database if exists "{name}" with (force)')


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on the test's own database, working as the application role."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def _start(request: pytest.FixtureRequest, part: str) -> dict[str, str]:
    stack: Stack = request.getfixturevalue("server_stack")
    stack.start(part)
    return stack.environment


def _with_database(url: str, name: str) -> str:
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)
