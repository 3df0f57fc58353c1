"""Gates: features, which contracts have them, what stands at their gates, and amounts held before work is done."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0015"
down_revision = "0014"

RIGHTS = {
    "feature": "select, insert, update",
    "feature_grant": "select, insert, update",
    "gate": "select, insert, update, delete",
    "hold": "select, insert, update",
}
MOMENT = sa.DateTime(timezone=True)
MONEY = sa.Numeric(38, 12)
QUANTITY = sa.Numeric(38, 12)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Add the tables, empty: accruals fill `gate` for contracts that have features."""
    op.create_table(
        "feature",
        sa.Column("feature_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("products", ARRAY(sa.Text), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=NOW),
        sa.CheckConstraint("kind in ('boolean', 'metered', 'balance')", name=op.f("ck_feature_kind")),
        sa.CheckConstraint("(kind = 'boolean') = (products = '{}')", name=op.f("ck_feature_products")),
    )
    op.create_table(
        "feature_grant",
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), primary_key=True),
        sa.Column("feature_id", sa.Text, sa.ForeignKey("feature.feature_id"), primary_key=True),
        sa.Column("most_units", QUANTITY, nullable=True),
        sa.Column("granted_by", sa.Text, nullable=False),
        sa.Column("granted_at", MOMENT, nullable=False, server_default=NOW),
        sa.Column("revoked_at", MOMENT, nullable=True),
    )
    op.create_table(
        "gate",
        sa.Column("customer_id", sa.Text, primary_key=True),
        sa.Column("feature_id", sa.Text, sa.ForeignKey("feature.feature_id"), primary_key=True),
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), nullable=False, index=True),
        sa.Column("left_amount", MONEY, nullable=True),
        sa.Column("left_units", QUANTITY, nullable=True),
        sa.Column("held_amount", MONEY, nullable=False, server_default="0"),
        sa.Column("held_units", QUANTITY, nullable=False, server_default="0"),
        sa.Column("unit_price", sa.Numeric(38, 18), nullable=True),
        sa.Column("problem", sa.Text, nullable=True),
        sa.Column("valid_until", MOMENT, nullable=True),
        sa.Column("watermark", MOMENT, nullable=False),
        sa.CheckConstraint("held_amount >= 0 and held_units >= 0", name=op.f("ck_gate_held")),
    )
    op.create_table(
        "hold",
        sa.Column("hold_id", sa.Text, primary_key=True),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("feature_id", sa.Text, sa.ForeignKey("feature.feature_id"), nullable=False),
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), nullable=False, index=True),
        sa.Column("units", QUANTITY, nullable=False),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="held"),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("settled_at", MOMENT, nullable=True),
        sa.Column("used_units", QUANTITY, nullable=True),
        sa.Column("used_amount", MONEY, nullable=True),
        sa.Column("batch_id", sa.BigInteger, nullable=True),
        sa.Column("source", sa.Text, nullable=True),
        sa.Column("key", sa.Text, nullable=True),
        sa.CheckConstraint("units >= 0 and amount >= 0", name=op.f("ck_hold_amount")),
        sa.CheckConstraint(
            "state in ('held', 'captured', 'released', 'expired', 'accrued')", name=op.f("ck_hold_state")
        ),
        sa.CheckConstraint(
            "(state in ('captured', 'accrued')) = (num_nulls(batch_id, used_units, used_amount) = 0)",
            name=op.f("ck_hold_captured"),
        ),
    )
    op.create_index("ix_hold_open", "hold", ["contract_id"], postgresql_where=sa.text("state in ('held', 'captured')"))
    op.create_index("ix_hold_expires_at", "hold", ["expires_at"], postgresql_where=sa.text("state = 'held'"))
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
