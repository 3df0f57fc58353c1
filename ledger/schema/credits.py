"""Credits: the recharges of prepaid balances."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text

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
