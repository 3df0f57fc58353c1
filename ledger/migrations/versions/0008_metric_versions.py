"""Metrics by version and of every aggregation; rollups hold what each aggregation needs, members count once."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

MOMENT = sa.DateTime(timezone=True)
AGGREGATIONS = "sum, count, unique, max, min, latest, average, percentile, time_weighted"

RIGHTS = {"usage_member": "select, insert, update, delete"}


def upgrade() -> None:
    """Let a metric have versions, carry the recorded ones over as their first, and make room for the figures."""
    op.add_column("metric", sa.Column("version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("metric", sa.Column("effective_from", MOMENT))
    op.drop_constraint("pk_metric", "metric")
    op.create_primary_key("pk_metric", "metric", ["metric_id", "version"])
    op.drop_constraint(op.f("ck_metric_property"), "metric")
    op.drop_constraint(op.f("ck_metric_aggregation"), "metric")
    listed = ", ".join(f"'{name}'" for name in AGGREGATIONS.split(", "))
    op.create_check_constraint(op.f("ck_metric_aggregation"), "metric", f"aggregation in ({listed})")
    op.create_check_constraint(op.f("ck_metric_version"), "metric", "version >= 1")
    op.execute(
        "update metric set definition = definition - 'metric_id' || '{\"version\": 1, \"effective_from\": null}'::jsonb"
    )
    for name in ("amount", "highest", "lowest", "latest_value", "weighted"):
        op.add_column("usage_rollup", sa.Column(name, sa.Numeric()))
    op.add_column("usage_rollup", sa.Column("latest_at", MOMENT))
    op.add_column("usage_rollup", sa.Column("latest_key", sa.Uuid()))
    op.create_table(
        "usage_member",
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("metric_id", sa.Text(), nullable=False),
        sa.Column("group_hash", sa.Uuid(), nullable=False),
        sa.Column("member_hash", sa.Uuid(), nullable=False),
        sa.Column("slot_start", MOMENT, nullable=False),
        sa.Column("additions", sa.BigInteger(), nullable=False),
        sa.Column("last_is_addition", sa.Boolean(), nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.Column("last_key", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint(
            "customer_id", "metric_id", "group_hash", "member_hash", "slot_start", name="pk_usage_member"
        ),
        postgresql_with={"fillfactor": "50"},
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
