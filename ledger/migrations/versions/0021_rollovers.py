"""What a lot hands over to the contract that renews its own."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

RIGHTS = {"lot_rollover": "select, insert"}
MOMENT = sa.DateTime(timezone=True)
MONEY = sa.Numeric(38, 12)


def upgrade() -> None:
    """Let a contract renew another one; those that are there renew none, and nothing is rolled over yet."""
    op.add_column("contract", sa.Column("renews", sa.Text, nullable=True))
    op.add_column("contract", sa.Column("rolled_over_at", MOMENT, nullable=True))
    op.create_foreign_key(op.f("fk_contract_renews"), "contract", "contract", ["renews"], ["contract_id"])
    op.create_unique_constraint(op.f("uq_contract_renews"), "contract", ["renews"])
    op.create_check_constraint(
        op.f("ck_contract_rolled_over_at"), "contract", "rolled_over_at is null or renews is not null"
    )
    op.create_table(
        "lot_rollover",
        sa.Column("from_lot", sa.Text, sa.ForeignKey("lot.lot_id"), primary_key=True),
        sa.Column("to_lot", sa.Text, sa.ForeignKey("lot.lot_id"), nullable=True, unique=True),
        sa.Column("amount", MONEY, nullable=False),
        sa.Column("drawn", MONEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("frozen_until", MOMENT, nullable=True),
        sa.CheckConstraint("amount >= 0 and (amount > 0) = (to_lot is not null)", name=op.f("ck_lot_rollover_amount")),
        sa.CheckConstraint("from_lot <> to_lot", name=op.f("ck_lot_rollover_lots")),
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
