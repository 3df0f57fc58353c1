"""Gates: features, which contracts have them, what stands at their gates, and amounts held before work is done."""

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY

from ledger.schema.base import MOMENT, MONEY, NOW, QUANTITY, metadata

feature = Table(
    "feature",
    metadata,
    Column("feature_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("products", ARRAY(Text), nullable=False),  # whose usage counts for it
    Column("created_at", MOMENT, nullable=False, server_default=NOW),
    CheckConstraint("kind in ('boolean', 'metered', 'balance')", name="kind"),
    CheckConstraint("(kind = 'boolean') = (products = '{}')", name="products"),
)

feature_grant = Table(
    "feature_grant",
    metadata,
    Column("contract_id", ForeignKey("contract.contract_id"), primary_key=True),
    Column("feature_id", ForeignKey("feature.feature_id"), primary_key=True),
    Column("most_units", QUANTITY),  # in a period; null: no limit
    Column("granted_by", Text, nullable=False),
    Column("granted_at", MOMENT, nullable=False, server_default=NOW),
    Column("revoked_at", MOMENT),
)

# what a gate answers from, written by accruals and holds: one row to read; a contract never leaves its customer, and a
# reference to the customer would lock it after its contract, against the order of those who change contracts
gate = Table(
    "gate",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("feature_id", ForeignKey("feature.feature_id"), primary_key=True),
    Column("contract_id", ForeignKey("contract.contract_id"), nullable=False, index=True),
    Column("left_amount", MONEY),  # null: money does not limit it
    Column("left_units", QUANTITY),  # null: units do not limit it
    Column("held_amount", MONEY, nullable=False, server_default="0"),
    Column("held_units", QUANTITY, nullable=False, server_default="0"),
    Column("unit_price", Numeric(38, 18)),
    Column("problem", Text),
    Column("valid_until", MOMENT),  # when a window of a lot or the period ends; null: never
    Column("watermark", MOMENT, nullable=False),
    Column("stopped_by", Text),  # the alert rule that holds it; null: none does
    Column("cap_left", MONEY),  # what the spend cap that is nearest leaves, less what is held; null: there is none
    Column("cap_rule", Text),  # that cap's alert rule
    CheckConstraint("held_amount >= 0 and held_units >= 0", name="held"),
    CheckConstraint("num_nulls(cap_left, cap_rule) in (0, 2)", name="cap"),
)

# `captured` counts as held until the accrual that has its usage makes it `accrued`
hold = Table(
    "hold",
    metadata,
    Column("hold_id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("feature_id", ForeignKey("feature.feature_id"), nullable=False),
    Column("contract_id", ForeignKey("contract.contract_id"), nullable=False, index=True),
    Column("units", QUANTITY, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("state", Text, nullable=False, server_default="held"),
    Column("created_at", MOMENT, nullable=False),
    Column("expires_at", MOMENT, nullable=False),
    Column("settled_at", MOMENT),
    Column("used_units", QUANTITY),  # what its usage is taken for until it is accrued
    Column("used_amount", MONEY),
    Column("batch_id", BigInteger),
    Column("source", Text),
    Column("key", Text),
    CheckConstraint("units >= 0 and amount >= 0", name="amount"),
    CheckConstraint("state in ('held', 'captured', 'released', 'expired', 'accrued')", name="state"),
    CheckConstraint(
        "(state in ('captured', 'accrued')) = (num_nulls(batch_id, used_units, used_amount) = 0)", name="captured"
    ),
    Index("ix_hold_open", "contract_id", postgresql_where="state in ('held', 'captured')"),
    Index("ix_hold_expires_at", "expires_at", postgresql_where="state = 'held'"),
)
