"""Credits: the recharges of prepaid balances, what waits for approval, and what lots hand over on renewal."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from ledger.schema.base import MOMENT, MONEY, metadata

recharge = Table(
    "recharge",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("lot_id", Text, nullable=False, unique=True),  # {contract_id}.recharge-{number}; the lot is there once paid
    Column("invoice_id", ForeignKey("invoice.invoice_id"), nullable=False, unique=True),
    Column("granted", MONEY, nullable=False),
    Column("charged", MONEY, nullable=False),
    Column("begun_at", MOMENT, nullable=False),
    Column("settled_at", MOMENT),
    # what a failed one waits to see changed: how many payments the customer had made, and by which card it pays
    Column("payments_before", Integer),
    Column("payment_method", Text),
    CheckConstraint("state in ('begun', 'paid', 'failed')", name="state"),
    CheckConstraint("charged > 0 and granted >= charged", name="charged"),
    CheckConstraint("(state = 'begun') = (settled_at is null)", name="settled"),
    CheckConstraint("(state = 'failed') = (payments_before is not null)", name="failed"),
    Index("uq_recharge_begun", "contract_id", unique=True, postgresql_where="state = 'begun'"),
)

# a grant, a void or another end of a lot that a second person decides on
credit_request = Table(
    "credit_request",
    metadata,
    Column("request_id", Text, primary_key=True),  # {lot_id}:{kind}-{number}
    Column("contract_id", ForeignKey("contract.contract_id"), nullable=False, index=True),
    Column("lot_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content", JSONB(none_as_null=False), nullable=False),  # what is asked for, beside the reason; null: a void
    Column("amount", MONEY, nullable=False),  # what is granted, or what the lot had left
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_at", MOMENT, nullable=False),
    Column("decision", Text),  # null while it is open
    Column("decided_by", Text),
    Column("decided_at", MOMENT),
    Column("decision_reason", Text),
    CheckConstraint("kind in ('grant', 'void', 'expiry')", name="kind"),
    CheckConstraint("decision in ('approved', 'rejected')", name="decision"),
    CheckConstraint("num_nonnulls(decision, decided_by, decided_at, decision_reason) in (0, 4)", name="decided"),
    CheckConstraint("decided_by <> requested_by", name="two_people"),
    Index("uq_credit_request_open", "lot_id", "kind", unique=True, postgresql_where="decision is null"),
)

# what a lot handed over to the contract that renews its own: decided once, also where it is nothing
lot_rollover = Table(
    "lot_rollover",
    metadata,
    Column("from_lot", ForeignKey("lot.lot_id"), primary_key=True),
    Column("to_lot", ForeignKey("lot.lot_id"), unique=True),
    Column("amount", MONEY, nullable=False),
    Column("drawn", MONEY, nullable=False),  # what usage had drawn from it by then
    Column("at", MOMENT, nullable=False),
    Column("frozen_until", MOMENT),  # what was invoiced then, and drew from the whole lot; null: nothing
    CheckConstraint("amount >= 0 and (amount > 0) = (to_lot is not null)", name="amount"),
    CheckConstraint("from_lot <> to_lot", name="lots"),
)
