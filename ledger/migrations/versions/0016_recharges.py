"""Recharges: a prepaid balance that is filled up when it is low, each with an invoice of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

RIGHTS = {"recharge": "select, insert, update"}
MOMENT = sa.DateTime(timezone=True)
MONEY = sa.Numeric(38, 12)


def upgrade() -> None:
    """Add the table, empty, and let a contract have several invoices of recharges in one period."""
    op.create_table(
        "recharge",
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("lot_id", sa.Text, nullable=False, unique=True),
        sa.Column("invoice_id", sa.Text, sa.ForeignKey("invoice.invoice_id"), nullable=False, unique=True),
        sa.Column("granted", MONEY, nullable=False),
        sa.Column("charged", MONEY, nullable=False),
        sa.Column("begun_at", MOMENT, nullable=False),
        sa.Column("settled_at", MOMENT, nullable=True),
        sa.Column("payments_before", sa.Integer, nullable=True),
        sa.Column("payment_method", sa.Text, nullable=True),
        sa.CheckConstraint("state in ('begun', 'paid', 'failed')", name=op.f("ck_recharge_state")),
        sa.CheckConstraint("charged > 0 and granted >= charged", name=op.f("ck_recharge_charged")),
        sa.CheckConstraint("(state = 'begun') = (settled_at is null)", name=op.f("ck_recharge_settled")),
        sa.CheckConstraint("(state = 'failed') = (payments_before is not null)", name=op.f("ck_recharge_failed")),
    )
    op.create_index(
        "uq_recharge_begun", "recharge", ["contract_id"], unique=True, postgresql_where=sa.text("state = 'begun'")
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
    op.drop_constraint(op.f("ck_invoice_kind"), "invoice")
    op.create_check_constraint("kind", "invoice", "kind in ('opening', 'period', 'late', 'recharge')")
    op.drop_index("uq_invoice_period", "invoice")
    op.create_index(
        "uq_invoice_period",
        "invoice",
        ["contract_id", "kind", "period_start"],
        unique=True,
        postgresql_where=sa.text("kind not in ('late', 'recharge')"),
    )
