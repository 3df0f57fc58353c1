"""Rate cards, contracts of any cadence, fees in arrears, and invoice lines that say where their price stands."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"

RIGHTS = {
    "rate_card": "select, insert, update",  # the right to update is what PostgreSQL asks of `lock table`
    "rate_card_version": "select, insert",
}
MOMENT = sa.DateTime(timezone=True)
CADENCES = "cadence in ('day', 'week', 'two_weeks', 'month', 'quarter', 'half_year', 'year')"
LINES = "kind in ('usage', 'fee', 'fee_in_arrears', 'commit', 'credit', 'discount', 'minimum', 'maximum')"
ACCRUED = "kind in ('usage', 'fee', 'fee_in_arrears')"


def upgrade() -> None:
    """Add what is missing; what is there stays valid as it is."""
    op.create_table(
        "rate_card",
        sa.Column("card_id", sa.Text, primary_key=True),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
    )
    op.create_table(
        "rate_card_version",
        sa.Column("card_id", sa.Text, sa.ForeignKey("rate_card.card_id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("content", JSONB, nullable=False),
        sa.Column("content_sha256", sa.LargeBinary, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
    op.add_column("contract", sa.Column("cadence", sa.Text, nullable=False, server_default="month"))
    op.add_column("contract", sa.Column("anchor_day", sa.SmallInteger))
    op.add_column("contract", sa.Column("anchor_month", sa.SmallInteger))
    op.create_check_constraint("cadence", "contract", CADENCES)
    op.create_check_constraint("anchor_day", "contract", "anchor_day between 1 and 31")
    op.create_check_constraint(
        "anchor_month", "contract", "anchor_month is null or (anchor_month between 1 and 12 and anchor_day is not null)"
    )
    op.drop_constraint(op.f("ck_invoice_line_kind"), "invoice_line")
    op.create_check_constraint("kind", "invoice_line", LINES)
    op.add_column("invoice_line", sa.Column("groups", JSONB, nullable=False, server_default="{}"))
    op.add_column("invoice_line", sa.Column("source", sa.Text, nullable=False, server_default=""))
    op.drop_constraint(op.f("ck_accrued_kind"), "accrued")
    op.create_check_constraint("kind", "accrued", ACCRUED)
