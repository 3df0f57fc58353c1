"""What products come to in the parts of days that lots cut, so that an accrual rates only what has changed."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

RIGHTS = {"kept_part": "select, insert, update, delete"}
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the table, empty: the next full computation of each contract fills it."""
    op.create_table(
        "kept_part",
        sa.Column("contract_id", sa.Text, sa.ForeignKey("contract.contract_id"), primary_key=True),
        sa.Column("period_start", MOMENT, primary_key=True),
        sa.Column("product_id", sa.Text, primary_key=True),
        sa.Column("start_at", MOMENT, primary_key=True),
        sa.Column("quantity", sa.Numeric(38, 12), nullable=False),
        sa.Column("amount", sa.Numeric(38, 12), nullable=False),
    )
    for table, rights in RIGHTS.items():
        op.execute(f"grant {rights} on {table} to meterbook_app")
