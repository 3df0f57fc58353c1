"""Alerts: their rules and crossings, the outbox of facts, and the webhook endpoints that hear of them."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ledger.schema.base import MOMENT, MONEY, NOW, metadata

# a threshold on a contract, on all contracts of a customer, or as the default on all (neither is named)
alert_rule = Table(
    "alert_rule",
    metadata,
    Column("rule_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("contract_id", ForeignKey("contract.contract_id"), index=True),
    Column("customer_id", ForeignKey("customer.customer_id"), index=True),
    Column("product_id", Text, nullable=False, server_default=""),  # empty: all products
    Column("lot_id", ForeignKey("lot.lot_id")),
    Column("span", Text, nullable=False),  # what is added up before it is compared; lots stand the whole term
    Column("threshold", MONEY, nullable=False),  # of an anomaly: how many times the usual spread
    Column("rearm", MONEY, nullable=False),  # how far back it must go before it may cross again
    Column("created_by", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    Column("disabled_at", MOMENT),
    Column("group_key", Text),  # of spend and usage: only what has this value of the key
    Column("group_value", Text),
    Column("days", Integer),  # of credit_expiring: how far ahead it looks
    Column("action", Text, nullable=False, server_default="notify"),
    CheckConstraint(
        "kind in ('spend', 'usage', 'balance_amount', 'balance_percent', 'balance_days', 'commit_used', 'anomaly',"
        " 'new_group', 'invoice_total', 'credit_expiring', 'forecast', 'usage_silent', 'payment_failed')",
        name="kind",
    ),
    CheckConstraint("span in ('period', 'day', 'hour', 'term')", name="span"),
    CheckConstraint(
        "(kind in ('spend', 'usage', 'anomaly', 'new_group', 'invoice_total', 'forecast', 'payment_failed'))"
        " = (span <> 'term')",
        name="term",
    ),
    CheckConstraint("(kind = 'anomaly') = (span = 'hour')", name="hour"),
    CheckConstraint("kind <> 'new_group' or span = 'day'", name="new_group"),
    CheckConstraint("(kind = 'commit_used') = (lot_id is not null)", name="lot"),
    CheckConstraint("contract_id is null or customer_id is null", name="scope"),
    CheckConstraint(
        "num_nulls(group_key, group_value) in (0, 2) and (group_key is null or kind in ('spend', 'usage'))",
        name="group",
    ),
    CheckConstraint("(kind = 'credit_expiring') = (days is not null)", name="days"),
    CheckConstraint(
        "action in ('notify', 'hold_gate', 'cap') and (action <> 'cap' or (kind = 'spend' and group_key is null))",
        name="action",
    ),
    Index("ix_alert_rule_action", "rule_id", postgresql_where="action <> 'notify' and disabled_at is null"),
    Index("ix_alert_rule_default", "rule_id", postgresql_where="contract_id is null and customer_id is null"),
)

# the crossings of a rule on a contract, numbered in each span: odd ones raise, even ones clear; never changed
alert = Table(
    "alert",
    metadata,
    Column("rule_id", ForeignKey("alert_rule.rule_id"), primary_key=True),
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("span_start", MOMENT, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("observed", MONEY, nullable=False),
    Column("threshold", MONEY, nullable=False),
    Column("at", MOMENT, nullable=False),
    CheckConstraint("state in ('raised', 'cleared')", name="state"),
    CheckConstraint("(number % 2 = 1) = (state = 'raised')", name="number"),
    Index("ix_alert_contract_id", "contract_id", "at"),
)

# alerts that hold gates, released by a person; never changed
alert_release = Table(
    "alert_release",
    metadata,
    Column("rule_id", Text, primary_key=True),
    Column("contract_id", Text, primary_key=True),
    Column("span_start", MOMENT, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("released_by", Text, nullable=False),
    Column("released_at", MOMENT, nullable=False),
    ForeignKeyConstraint(
        ["rule_id", "contract_id", "span_start", "number"],
        ["alert.rule_id", "alert.contract_id", "alert.span_start", "alert.number"],
    ),
)

# facts for others, written in the transaction that makes them
outbox = Table(
    "outbox",
    metadata,
    Column("sequence", BigInteger, Identity(always=True), primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("contract_id", ForeignKey("contract.contract_id"), index=True),
    Column("payload", JSONB, nullable=False),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
)

webhook_endpoint = Table(
    "webhook_endpoint",
    metadata,
    Column("endpoint_id", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("kinds", ARRAY(Text), nullable=False),  # empty: all
    Column("state", Text, nullable=False, server_default="active"),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    Column("channel", Text, nullable=False, server_default="webhook"),
    CheckConstraint("state in ('active', 'paused', 'removed')", name="state"),
    CheckConstraint("channel in ('webhook', 'slack', 'email')", name="channel"),
)

# secrets that deliveries are signed with: all that are not retired, so that one can be changed without loss
webhook_secret = Table(
    "webhook_secret",
    metadata,
    Column("endpoint_id", ForeignKey("webhook_endpoint.endpoint_id"), primary_key=True),
    Column("secret", Text, primary_key=True),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    Column("retired_at", MOMENT),
)

# what each endpoint is to hear, made with the fact; `due_at` is when it is tried next
webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("endpoint_id", ForeignKey("webhook_endpoint.endpoint_id"), primary_key=True),
    Column("sequence", ForeignKey("outbox.sequence"), primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", MOMENT, nullable=False, server_default=NOW),
    Column("answered", Text, nullable=False, server_default=""),  # what the last attempt came to
    Column("delivered_at", MOMENT),
    CheckConstraint("state in ('pending', 'delivered', 'dead')", name="state"),
    Index("ix_webhook_delivery_due", "endpoint_id", "due_at", postgresql_where="state = 'pending'"),
)
