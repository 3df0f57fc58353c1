"""Who sells and buys, what is counted, and the usage as it came in."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "entity",
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("invoice_prefix", sa.Text(), nullable=False),
        sa.Column("next_invoice_number", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("definition", JSONB(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("entity_id", name="pk_entity"),
        sa.UniqueConstraint("invoice_prefix", name="uq_entity_invoice_prefix"),
    )
    op.create_table(
        "customer",
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text()),
        sa.Column("bucket_minutes", sa.SmallInteger(), server_default="60", nullable=False),
        sa.Column("stripe_customer_id", sa.Text()),
        sa.Column("definition", JSONB(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint("bucket_minutes in (15, 60)", name=op.f("ck_customer_bucket_minutes")),
        sa.PrimaryKeyConstraint("customer_id", name="pk_customer"),
    )
    op.create_table(
        "customer_alias",
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.customer_id"], name="fk_customer_alias_customer_id"),
        sa.PrimaryKeyConstraint("alias", name="pk_customer_alias"),
    )
    op.create_index("ix_customer_alias_customer_id", "customer_alias", ["customer_id"])
    op.create_table(
        "metric",
        sa.Column("metric_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("aggregation", sa.Text(), nullable=False),
        sa.Column("property", sa.Text()),
        sa.Column("group_keys", ARRAY(sa.Text()), nullable=False),
        sa.Column("definition", JSONB(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint("(aggregation = 'sum') = (property is not null)", name=op.f("ck_metric_property")),
        sa.CheckConstraint("aggregation in ('sum', 'count')", name=op.f("ck_metric_aggregation")),
        sa.PrimaryKeyConstraint("metric_id", name="pk_metric"),
    )
    op.create_index("ix_metric_event_type", "metric", ["event_type"])
    op.create_table(
        "api_key",
        sa.Column("api_key_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.Column("revoked_at", MOMENT),
        sa.PrimaryKeyConstraint("api_key_id", name="pk_api_key"),
        sa.UniqueConstraint("secret_sha256", name="uq_api_key_secret_sha256"),
    )
    op.create_table(
        "usage_batch",
        sa.Column("batch_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("duplicate", sa.Integer(), nullable=False),
        sa.Column("conflict", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.CheckConstraint("door in ('file', 'http', 'signal')", name=op.f("ck_usage_batch_door")),
        sa.PrimaryKeyConstraint("batch_id", name="pk_usage_batch"),
    )
    op.create_table(
        "usage_key",
        sa.Column("key_hash", sa.Uuid(), nullable=False),
        sa.Column("payload_hash", sa.Uuid(), nullable=False),
        sa.Column("ts", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name="pk_usage_key"),
    )
    op.create_table(
        "usage_event",
        sa.Column("ts", MOMENT, nullable=False),
        sa.Column("key_hash", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("customer_alias", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text()),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("properties", JSONB(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        postgresql_partition_by="RANGE (ts)",
    )
    op.create_index("ix_usage_event_ts", "usage_event", ["ts"], postgresql_using="brin")
    op.create_index("ix_usage_event_batch_id", "usage_event", ["batch_id"], postgresql_using="brin")
    op.create_table(
        "usage_conflict",
        sa.Column("conflict_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("key_hash", sa.Uuid(), nullable=False),
        sa.Column("payload_hash", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("event", JSONB(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("conflict_id", name="pk_usage_conflict"),
        sa.UniqueConstraint("key_hash", "payload_hash", name="uq_usage_conflict_key_hash_payload_hash"),
    )
    op.create_index("ix_usage_conflict_key_hash", "usage_conflict", ["key_hash"])
    op.create_table(
        "usage_rejected",
        sa.Column("rejected_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("key", sa.Text()),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rejected_id", name="pk_usage_rejected"),
    )
    op.create_table(
        "usage_outcome",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("received_hour", MOMENT, nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("duplicate", sa.BigInteger(), nullable=False),
        sa.Column("conflict", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "received_hour", name="pk_usage_outcome"),
    )
    op.create_table(
        "usage_tally",
        sa.Column("customer_alias", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("bucket_start", MOMENT, nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("customer_alias", "type", "source", "bucket_start", name="pk_usage_tally"),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "usage_rollup",
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("metric_id", sa.Text(), nullable=False),
        sa.Column("group_hash", sa.Uuid(), nullable=False),
        sa.Column("bucket_start", MOMENT, nullable=False),
        sa.Column("groups", JSONB(), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("max_received_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "metric_id", "group_hash", "bucket_start", name="pk_usage_rollup"),
        postgresql_with={"fillfactor": "50"},
    )
