"""Metrics that were recorded before they had versions are carried over as they are."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import ledger.migrations
from ledger.database import create_engine
from ledger.metrics import create_metric, get_metric
from ledger.migrations import migrate
from tests.ledger.test_schema import empty_url
from tests.metrics import metric

__all__ = ["empty_url"]

BEFORE = "0007"
TOKENS = """
insert into metric (metric_id, event_type, aggregation, property, group_keys, definition) values (
    'tokens', 'llm.request', 'sum', 'input_tokens', '{model}',
    '{"metric_id": "tokens", "event_type": "llm.request", "aggregation": "sum", "property": "input_tokens",
    "group_keys": ["model"]}'
)
"""


def migrate_to(url: str, revision: str) -> None:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(ledger.migrations.__file__).parent))
    with engine.begin() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)
        connection.execute(sa.text(TOKENS))
    engine.dispose()


def test_a_metric_without_versions_becomes_its_first(empty_url: str) -> None:
    migrate_to(empty_url, BEFORE)
    migrate(empty_url)
    engine = create_engine(empty_url)
    tokens = metric("tokens", "llm.request", "sum", "input_tokens", ("model",))
    with engine.begin() as connection:
        assert get_metric(connection, "tokens") == tokens
        assert create_metric(connection, tokens) == "exists"
    engine.dispose()
