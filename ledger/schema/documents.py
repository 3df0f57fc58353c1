"""Documents and cash: invoices, payments and their attempts, and close runs."""

from sqlalchemy import CheckConstraint, Column, Date, ForeignKey, Index, Integer, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB

from ledger.schema.base import MOMENT, MONEY, NOW, QUANTITY, metadata

invoice = Table(
    "invoice",
    metadata,
    # {contract_id}.{first local day of the period}; for the day stands `opening`, `recharge-{n}`, or after the last
    # period `late-{n}`
    Column("invoice_id", Text, primary_key=True),
    Column("contract_id", ForeignKey("contract.contract_id"), nullable=False, index=True),
    Column("customer_id", ForeignKey("customer.customer_id"), nullable=False),
    Column("entity_id", ForeignKey("entity.entity_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("period_start", MOMENT, nullable=False),
    Column("period_end", MOMENT, nullable=False),
    Column("currency", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("number", Text, unique=True),
    Column("flags", JSONB, nullable=False),
    Column("total", MONEY, nullable=False),
    Column("approved_by", Text),
    Column("approved_at", MOMENT),
    Column("finalised_at", MOMENT),
    Column("issue_date", Date),
    Column("due_date", Date),
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("kind in ('opening', 'period', 'late', 'recharge')", name="kind"),
    CheckConstraint("state in ('draft', 'in_review', 'approved', 'finalised', 'paid', 'uncollectible')", name="state"),
    CheckConstraint("(number is null) = (state in ('draft', 'in_review', 'approved'))", name="number"),
    Index(
        "uq_invoice_period",
        "contract_id",
        "kind",
        "period_start",
        unique=True,
        postgresql_where="kind not in ('late', 'recharge')",
    ),
)

invoice_line = Table(
    "invoice_line",
    metadata,
    Column("invoice_id", ForeignKey("invoice.invoice_id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("product_id", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("service_start", MOMENT, nullable=False),
    Column("service_end", MOMENT, nullable=False),
    Column("quantity", QUANTITY, nullable=False),
    Column("unit", Text, nullable=False),
    Column("exact", MONEY, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("steps", JSONB, nullable=False),
    Column("groups", JSONB, nullable=False, server_default="{}"),
    Column("source", Text, nullable=False, server_default=""),  # where the price stands, if not in the contract
    Column("adjusts_invoice_id", ForeignKey("invoice.invoice_id"), index=True),
    Column("adjusts_position", Integer),  # null: the original invoice has no such line
    CheckConstraint(
        "kind in ('usage', 'fee', 'fee_in_arrears', 'commit', 'true_up', 'credit', 'discount', 'minimum', 'maximum', "
        "'adjustment')",
        name="kind",
    ),
    CheckConstraint("(kind = 'adjustment') = (adjusts_invoice_id is not null)", name="adjusts"),
)

# what late or corrected usage takes off an invoice, asked for as a credit note; documents follow from it
credit_note_request = Table(
    "credit_note_request",
    metadata,
    Column("request_id", Text, primary_key=True),  # {invoice_id of the original}/{n}
    Column("invoice_id", ForeignKey("invoice.invoice_id"), nullable=False, index=True),
    Column("position", Integer),  # the original line; null: it has none for this
    Column("contract_id", ForeignKey("contract.contract_id"), nullable=False, index=True),
    Column("product_id", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("service_start", MOMENT, nullable=False),
    Column("service_end", MOMENT, nullable=False),
    Column("unit", Text, nullable=False),
    Column("groups", JSONB, nullable=False),
    Column("quantity", QUANTITY, nullable=False),
    Column("exact", MONEY, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("currency", Text, nullable=False),
    Column("requested_at", MOMENT, nullable=False),
)

payment_attempt = Table(
    "payment_attempt",
    metadata,
    Column("attempt_id", Text, primary_key=True),  # {invoice_id}#{n}
    Column("invoice_id", ForeignKey("invoice.invoice_id"), nullable=False, index=True),
    Column("n", Integer, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("currency", Text, nullable=False),
    Column("parameters", JSONB, nullable=False),  # exactly what is sent, written before it is sent
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("payment_intent_id", Text, index=True),
    Column("decline_code", Text),
    Column("advice_code", Text),
    Column("opened_at", MOMENT, nullable=False),
    Column("settled_at", MOMENT),
    CheckConstraint("state in ('open', 'unknown', 'succeeded', 'declined', 'not_executed')", name="state"),
    UniqueConstraint("invoice_id", "n"),
    Index(
        "uq_payment_attempt_open",
        "invoice_id",
        unique=True,
        postgresql_where="state in ('open', 'unknown')",
    ),
)

payment = Table(
    "payment",
    metadata,
    Column("payment_id", Text, primary_key=True),  # the charge's or the bank's own id: the same cash is recorded once
    Column("entity_id", ForeignKey("entity.entity_id"), nullable=False),
    Column("contract_id", ForeignKey("contract.contract_id"), index=True),
    Column("method", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("fee", MONEY, nullable=False),
    Column("received_on", Date, nullable=False),
    Column("reference", Text, nullable=False),
    Column("payment_intent_id", Text, unique=True),
    Column("balance_transaction_id", Text, unique=True),
    Column("recorded_by", Text, nullable=False),
    Column("recorded_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("method in ('card', 'bank_transfer')", name="method"),
    CheckConstraint("amount > 0", name="amount"),
    CheckConstraint("fee >= 0", name="fee"),
)

payment_application = Table(
    "payment_application",
    metadata,
    Column("payment_id", ForeignKey("payment.payment_id"), primary_key=True),
    Column("invoice_id", ForeignKey("invoice.invoice_id"), primary_key=True, index=True),
    Column("amount", MONEY, nullable=False),
    CheckConstraint("amount > 0", name="amount"),
)

stripe_event = Table(
    "stripe_event",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("received_at", MOMENT, nullable=False, server_default=NOW),
)

close_run = Table(
    "close_run",
    metadata,
    Column("entity_id", ForeignKey("entity.entity_id"), primary_key=True),
    Column("month", Date, primary_key=True),
    Column("state", Text, nullable=False),
    Column("started_by", Text, nullable=False),
    Column("started_at", MOMENT, nullable=False),
    Column("finished_at", MOMENT),
    CheckConstraint("state in ('running', 'closed')", name="state"),
)
