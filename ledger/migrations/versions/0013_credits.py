"""Credits: promotional lots beside commits, voided and extended lots, and the breakage of lots that end."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

RIGHTS = {"lot_change": "select, insert"}
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add what a lot is, how its window changed, and a kind of accrued amount; what is there are commits."""
    op.add_column("lot", sa.Column("kind", sa.Text, nullable=False, server_default="commit"))
    op.add_column("lot", sa.Column("granted_by", sa.Text, nullable=True))
    op.add_column("lot", sa.Column("reason", sa.Text, nullable=True))
    op.create_check_constraint(op.f("ck_lot_kind"), "lot", "kind in ('commit', 'promotional')")
    op.create_check_constraint(
        op.f("ck_lot_granted_by"), "lot", "kind = 'commit' or (granted_by is not null and reason is not null)"
    )
    op.create_table(
        "lot_change",
        sa.Column("change_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("lot_id", sa.Text, sa.ForeignKey("lot.lot_id"), nullable=False, index=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("end_at", MOMENT, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("frozen_until", MOMENT, nullable=True),
        sa.CheckConstraint("kind in ('void', 'expiry')", name=op.f("ck_lot_change_kind")),
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
    op.execute("grant select, usage on sequence lot_change_change_id_seq to meterbook_app")
    op.drop_constraint(op.f("ck_accrued_kind"), "accrued")
    op.create_check_constraint(
        op.f("ck_accrued_kind"), "accrued", "kind in ('usage', 'fee', 'fee_in_arrears', 'breakage')"
    )
