"""Alerts: rules, their crossings, the outbox of facts, and the webhook endpoints that hear of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0014"
down_revision = "0013"

RIGHTS = {
    "alert_rule": "select, insert, update",
    "alert": "select, insert",
    "outbox": "select, insert",
    "webhook_endpoint": "select, insert, update",
    "webhook_secret": "select, insert, update",
    "webhook_delivery": "select, insert, update",
}
MOMENT = sa.DateTime(timezone=True)
MONEY = sa.Numeric(38, 12)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Add the tables, empty."""
    _alerts()
    _webhooks()
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
    op.execute("grant select, usage on sequence outbox_sequence_seq to meterbook_app")


def _alerts() -> None:
    op.create_table(
        "alert_rule",
        sa.Column("rule_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), nullable=True, index=True),
        sa.Column("customer_id", sa.Text, sa.ForeignKey("customer.customer_id"), nullable=True, index=True),
        sa.Column("product_id", sa.Text, nullable=False, server_default=""),
        sa.Column("lot_id", sa.Text, sa.ForeignKey("lot.lot_id"), nullable=True),
        sa.Column("span", sa.Text, nullable=False),
        sa.Column("threshold", MONEY, nullable=False),
        sa.Column("rearm", MONEY, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=NOW),
        sa.Column("disabled_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "kind in ('spend', 'usage', 'balance_amount', 'balance_percent', 'balance_days', 'commit_used')",
            name=op.f("ck_alert_rule_kind"),
        ),
        sa.CheckConstraint("span in ('period', 'day', 'term')", name=op.f("ck_alert_rule_span")),
        sa.CheckConstraint("(kind in ('spend', 'usage')) = (span <> 'term')", name=op.f("ck_alert_rule_term")),
        sa.CheckConstraint("(kind = 'commit_used') = (lot_id is not null)", name=op.f("ck_alert_rule_lot")),
        sa.CheckConstraint("contract_id is null or customer_id is null", name=op.f("ck_alert_rule_scope")),
    )
    op.create_index(
        "ix_alert_rule_default",
        "alert_rule",
        ["rule_id"],
        postgresql_where=sa.text("contract_id is null and customer_id is null"),
    )
    op.create_table(
        "alert",
        sa.Column("rule_id", sa.Text, sa.ForeignKey("alert_rule.rule_id"), primary_key=True),
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), primary_key=True),
        sa.Column("span_start", MOMENT, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("observed", MONEY, nullable=False),
        sa.Column("threshold", MONEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.CheckConstraint("state in ('raised', 'cleared')", name=op.f("ck_alert_state")),
        sa.CheckConstraint("(number % 2 = 1) = (state = 'raised')", name=op.f("ck_alert_number")),
    )
    op.create_index("ix_alert_contract_id", "alert", ["contract_id", "at"])


def _webhooks() -> None:
    op.create_table(
        "outbox",
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), nullable=True, index=True),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=NOW),
    )
    op.create_table(
        "webhook_endpoint",
        sa.Column("endpoint_id", sa.Text, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("kinds", ARRAY(sa.Text), nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="active"),
        sa.Column("created_at", MOMENT, nullable=False, server_default=NOW),
        sa.CheckConstraint("state in ('active', 'paused', 'removed')", name=op.f("ck_webhook_endpoint_state")),
    )
    op.create_table(
        "webhook_secret",
        sa.Column("endpoint_id", sa.Text, sa.ForeignKey("webhook_endpoint.endpoint_id"), primary_key=True),
        sa.Column("secret", sa.Text, primary_key=True),
        sa.Column("created_at", MOMENT, nullable=False, server_default=NOW),
        sa.Column("retired_at", MOMENT, nullable=True),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("endpoint_id", sa.Text, sa.ForeignKey("webhook_endpoint.endpoint_id"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, sa.ForeignKey("outbox.sequence"), primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("due_at", MOMENT, nullable=False, server_default=NOW),
        sa.Column("answered", sa.Text, nullable=False, server_default=""),
        sa.Column("delivered_at", MOMENT, nullable=True),
        sa.CheckConstraint("state in ('pending', 'delivered', 'dead')", name=op.f("ck_webhook_delivery_state")),
    )
    op.create_index(
        "ix_webhook_delivery_due",
        "webhook_delivery",
        ["endpoint_id", "due_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )
