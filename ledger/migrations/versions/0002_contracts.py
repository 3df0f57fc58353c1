"""Contracts: terms, periods, lots, what is accrued, and the marks of usage to accrue."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0002"
down_revision = "0001"

MOMENT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
DECIMAL = sa.Numeric(38, 12)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "contract",
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("start_at", MOMENT, nullable=False),
        sa.Column("end_at", MOMENT),
        sa.Column("policy", JSONB(), nullable=False),
        sa.Column("definition", JSONB(), nullable=False),
        sa.Column("definition_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("accrued_at", MOMENT),
        sa.Column("problem", sa.Text()),
        sa.Column("ended_by", sa.Text()),
        sa.Column("end_reason", sa.Text()),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint("end_at is null or end_at > start_at", name=op.f("ck_contract_term")),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.customer_id"], name="fk_contract_customer_id"),
        sa.ForeignKeyConstraint(["entity_id"], ["entity.entity_id"], name="fk_contract_entity_id"),
        sa.PrimaryKeyConstraint("contract_id", name="pk_contract"),
    )
    op.create_index("ix_contract_customer_id", "contract", ["customer_id"])
    op.create_index("ix_contract_entity_id", "contract", ["entity_id"])
    op.create_table(
        "contract_terms",
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("effective_from", MOMENT, nullable=False),
        sa.Column("terms", JSONB(), nullable=False),
        sa.Column("terms_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_contract_terms_contract_id"),
        sa.PrimaryKeyConstraint("contract_id", "version", name="pk_contract_terms"),
    )
    op.create_table(
        "contract_period",
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("start_at", MOMENT, nullable=False),
        sa.Column("end_at", MOMENT, nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("cutoff_batch_id", sa.BigInteger()),
        sa.Column("frozen_at", MOMENT),
        sa.CheckConstraint("(state = 'open') = (cutoff_batch_id is null)", name=op.f("ck_contract_period_cutoff")),
        sa.CheckConstraint("state in ('open', 'frozen', 'invoiced')", name=op.f("ck_contract_period_state")),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_contract_period_half_open")),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_contract_period_contract_id"),
        sa.PrimaryKeyConstraint("contract_id", "start_at", name="pk_contract_period"),
    )
    op.create_table(
        "lot",
        sa.Column("lot_id", sa.Text(), nullable=False),
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("amount", DECIMAL, nullable=False),
        sa.Column("start_at", MOMENT, nullable=False),
        sa.Column("end_at", MOMENT),
        sa.Column("products", ARRAY(sa.Text()), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("cost_basis", sa.Numeric(precision=20, scale=12), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_lot_amount")),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_lot_contract_id"),
        sa.PrimaryKeyConstraint("lot_id", name="pk_lot"),
    )
    op.create_index("ix_lot_contract_id", "lot", ["contract_id"])
    op.create_table(
        "accrued",
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("period_start", MOMENT, nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("lot_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("quantity", DECIMAL, nullable=False),
        sa.Column("amount", DECIMAL, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint("kind in ('usage', 'fee')", name=op.f("ck_accrued_kind")),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_accrued_contract_id"),
        sa.PrimaryKeyConstraint("contract_id", "period_start", "product_id", "lot_id", "day", name="pk_accrued"),
    )
    op.create_table(
        "usage_dirty",
        sa.Column("dirty_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_usage_dirty_contract_id"),
        sa.PrimaryKeyConstraint("dirty_id", name="pk_usage_dirty"),
    )
    op.create_index("ix_usage_dirty_contract_id", "usage_dirty", ["contract_id"])
    op.create_table(
        "usage_accrual",
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("accrued_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.contract_id"], name="fk_usage_accrual_contract_id"),
        sa.PrimaryKeyConstraint("batch_id", "contract_id", name="pk_usage_accrual"),
    )
