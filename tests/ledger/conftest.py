"""Fixtures of the ledger's tests."""

from collections.abc import Iterator

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
