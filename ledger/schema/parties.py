"""Who sells, who buys, what is counted, and who may send."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ledger.schema.base import MOMENT, NOW, metadata

entity = Table(
    "entity",
    metadata,
    Column("entity_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("invoice_prefix", Text, nullable=False),
    Column("next_invoice_number", BigInteger, nullable=False, server_default="1"),
    Column("definition", JSONB, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    UniqueConstraint("invoice_prefix"),
)

customer = Table(
    "customer",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("bucket_minutes", SmallInteger, nullable=False, server_default="60"),
    Column("stripe_customer_id", Text),
    Column("definition", JSONB, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("bucket_minutes in (15, 60)", name="bucket_minutes"),
)

customer_alias = Table(
    "customer_alias",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("customer_id", ForeignKey("customer.customer_id"), nullable=False, index=True),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
)

metric = Table(  # a row is a version of a metric, in force from `effective_from` (null: from ever) until the next one
    "metric",
    metadata,
    Column("metric_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True, server_default="1"),
    Column("effective_from", MOMENT),
    Column("event_type", Text, nullable=False, index=True),
    Column("aggregation", Text, nullable=False),
    Column("property", Text),
    Column("group_keys", ARRAY(Text), nullable=False),
    Column("definition", JSONB, nullable=False),  # the whole rule
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint(
        "aggregation in ('sum', 'count', 'unique', 'max', 'min', 'latest', 'average', 'percentile', 'time_weighted')",
        name="aggregation",
    ),
    CheckConstraint("version >= 1", name="version"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("api_key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_sha256", LargeBinary, nullable=False, unique=True),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    Column("revoked_at", MOMENT),
)
