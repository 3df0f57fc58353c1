"""Commits in segments and instalments, and commits paid in arrears."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

LINES = (
    "kind in ('usage', 'fee', 'fee_in_arrears', 'commit', 'true_up', 'credit', 'discount', 'minimum', 'maximum', "
    "'adjustment')"
)


def upgrade() -> None:
    """Add postpaid lots, what instalments pay for a lot, and lines of true-ups; the lots there are billed as wholes."""
    op.add_column("lot", sa.Column("instalments_of", sa.Text, nullable=True))
    op.add_column("lot", sa.Column("paid", sa.Numeric(38, 12), nullable=True))
    op.create_check_constraint(op.f("ck_lot_paid"), "lot", "(instalments_of is null) = (paid is null)")
    op.drop_constraint(op.f("ck_lot_kind"), "lot")
    op.create_check_constraint(op.f("ck_lot_kind"), "lot", "kind in ('commit', 'postpaid', 'promotional')")
    op.drop_constraint(op.f("ck_lot_granted_by"), "lot")
    op.create_check_constraint(
        op.f("ck_lot_granted_by"), "lot", "kind <> 'promotional' or (granted_by is not null and reason is not null)"
    )
    op.drop_constraint(op.f("ck_invoice_line_kind"), "invoice_line")
    op.create_check_constraint(op.f("ck_invoice_line_kind"), "invoice_line", LINES)
