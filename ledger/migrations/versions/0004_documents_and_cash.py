"""Invoices with their lines, attempts to collect them, payments, and what Stripe told."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

MOMENT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
DECIMAL = sa.Numeric(38, 12)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "invoice",
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("period_start", MOMENT, nullable=False),
        sa.Column("period_end", MOMENT, nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("number", sa.Text()),
        sa.Column("flags", JSONB(), nullable=False),
        sa.Column("total", DECIMAL, nullable=False),
        sa.Column("approved_by", sa.Text()),
        sa.Column("approved_at", MOMENT),
        sa.Column("finalised_at", MOMENT),
        sa.Column("issue_date", sa.Date()),
        sa.Column("due_date", sa.Date()),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint(
            "(number is null) = (state in ('draft', 'in_review', 'approved'))", name=op.f("ck_invoice_number")
        ),
        sa.CheckConstraint("kind in ('opening', 'period')", name=op.f("ck_invoice_kind")),
        sa.CheckConstraint(
            "state in ('draft', 'in_review', 'approved', 'finalised', 'paid', 'uncollectible')",
            name=op.f("ck_invoice_state"),
        ),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_invoice_contract_id"),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.customer_id"], name="fk_invoice_customer_id"),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name="fk_invoice_entity_id"),
        sa.PrimaryKeyConstraint("invoice_id", name="pk_invoice"),
        sa.UniqueConstraint("contract_id", "kind", "period_start", name="uq_invoice_contract_id_kind_period_start"),
        sa.UniqueConstraint("number", name="uq_invoice_number"),
    )
    op.create_index("ix_invoice_contract_id", "invoice", ["contract_id"])
    op.create_table(
        "invoice_line",
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("service_start", MOMENT, nullable=False),
        sa.Column("service_end", MOMENT, nullable=False),
        sa.Column("quantity", DECIMAL, nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("exact", DECIMAL, nullable=False),
        sa.Column("amount", DECIMAL, nullable=False),
        sa.Column("steps", JSONB(), nullable=False),
        sa.CheckConstraint("kind in ('usage', 'fee', 'commit', 'credit')", name=op.f("ck_invoice_line_kind")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.invoice_id"], name="fk_invoice_line_invoice_id"),
        sa.PrimaryKeyConstraint("invoice_id", "position", name="pk_invoice_line"),
    )
    op.create_table(
        "payment_attempt",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("amount", DECIMAL, nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("parameters", JSONB(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("payment_intent_id", sa.Text()),
        sa.Column("decline_code", sa.Text()),
        sa.Column("advice_code", sa.Text()),
        sa.Column("opened_at", MOMENT, nullable=False),
        sa.Column("settled_at", MOMENT),
        sa.CheckConstraint(
            "state in ('open', 'unknown', 'succeeded', 'declined', 'not_executed')",
            name=op.f("ck_payment_attempt_state"),
        ),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.invoice_id"], name="fk_payment_attempt_invoice_id"),
        sa.PrimaryKeyConstraint("attempt_id", name="pk_payment_attempt"),
        sa.UniqueConstraint("idempotency_key", name="uq_payment_attempt_idempotency_key"),
        sa.UniqueConstraint("invoice_id", "n", name="uq_payment_attempt_invoice_id_n"),
    )
    op.create_index("ix_payment_attempt_invoice_id", "payment_attempt", ["invoice_id"])
    op.create_index("ix_payment_attempt_payment_intent_id", "payment_attempt", ["payment_intent_id"])
    op.create_index(
        "uq_payment_attempt_open",
        "payment_attempt",
        ["invoice_id"],
        unique=True,
        postgresql_where="state in ('open', 'unknown')",
    )
    op.create_table(
        "payment",
        sa.Column("payment_id", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("contract_id", sa.Text()),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount", DECIMAL, nullable=False),
        sa.Column("fee", DECIMAL, nullable=False),
        sa.Column("received_on", sa.Date(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("payment_intent_id", sa.Text()),
        sa.Column("balance_transaction_id", sa.Text()),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.Column("recorded_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint("method in ('card', 'bank_transfer')", name=op.f("ck_payment_method")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payment_amount")),
        sa.CheckConstraint("fee >= 0", name=op.f("ck_payment_fee")),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_payment_contract_id"),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name="fk_payment_entity_id"),
        sa.PrimaryKeyConstraint("payment_id", name="pk_payment"),
        sa.UniqueConstraint("balance_transaction_id", name="uq_payment_balance_transaction_id"),
        sa.UniqueConstraint("payment_intent_id", name="uq_payment_payment_intent_id"),
    )
    op.create_index("ix_payment_contract_id", "payment", ["contract_id"])
    op.create_table(
        "payment_application",
        sa.Column("payment_id", sa.Text(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("amount", DECIMAL, nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payment_application_amount")),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoice.invoice_id"], name="fk_payment_application_invoice_id"),
        sa.ForeignKeyConstraint(["payment_id"], ["payment.payment_id"], name="fk_payment_application_payment_id"),
        sa.PrimaryKeyConstraint("payment_id", "invoice_id", name="pk_payment_application"),
    )
    op.create_index("ix_payment_application_invoice_id", "payment_application", ["invoice_id"])
    op.create_table(
        "stripe_event",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("body", JSONB(), nullable=False),
        sa.Column("received_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="pk_stripe_event"),
    )
